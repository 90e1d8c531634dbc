"""Number 8, requests, answers and files of every kind: tests of their own, which look much longer here."""

import asyncio
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NAME, NUMBER = "fuzz", 8
TITLE = "Requests, messages, answers and config files of every kind"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fuzzed:
    """What came of it."""

    is_good: bool
    seconds: float
    passed: int
    text: str
    """What pytest said."""


async def fuzz(seed: int, *, short: bool) -> Fuzzed:
    """Run the tests `test_fuzz_*.py`, unless short with many more examples, which the seed chooses."""
    started = time.monotonic()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", f"--hypothesis-seed={seed}", *map(str, sorted(HERE.glob("test_fuzz_*.py"))),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=HERE.parents[1],
        env=os.environ | {"FUZZ": "" if short else "long"},
    )  # fmt: skip
    out, _ = await child.communicate()
    text = out.decode(errors="replace")
    passed = re.search(r"(\d+) passed", text)
    return Fuzzed(child.returncode == 0, time.monotonic() - started, int(passed[1]) if passed else 0, text)
