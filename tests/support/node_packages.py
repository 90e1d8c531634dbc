"""What npm brings for the tests (tests/node); installed by make where npm is."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.programs import REQUIRE

FOLDER = Path(__file__).parents[1] / "node"
INSTALLED = FOLDER / "node_modules"


def require_node_packages() -> Path:
    """Give the folder of the packages; where they are not, skip the test, or fail it where everything must be tested."""
    if (INSTALLED / ".package-lock.json").exists():
        return INSTALLED
    if os.environ.get(REQUIRE):
        pytest.fail(f"tests/node is not installed, and {REQUIRE} is set; run: make setup", pytrace=False)
    pytest.skip("NOT TESTED HERE: tests/node is not installed; run: make setup")


class Mermaid:
    """Mermaid's own parser, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def understand(self, diagram: str) -> dict[str, Any]:
        """Give what the parser made of a diagram; it must have taken it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(diagram) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in answer, f"{answer['error']}\n{diagram}"
        return answer


@contextmanager
def mermaid_parser() -> Iterator[Mermaid]:
    require_node_packages()
    with subprocess.Popen(
        ["node", FOLDER / "parse_mermaid.mjs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        yield Mermaid(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
