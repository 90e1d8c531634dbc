"""Programs that pip does not bring. `requirements/programs.txt` lists them, for the tests and for `.ci/run` alike."""

import os
import shutil
from pathlib import Path

import pytest

LIST = Path(__file__).parents[2] / "requirements" / "programs.txt"
REQUIRE = "TESTS_REQUIRE_PROGRAMS"
"""Set where a missing program must fail the test instead of skipping it."""


def debian_packages() -> dict[str, str]:
    """The listed programs, each with the Debian package that brings it."""
    lines = LIST.read_text().splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if line.strip() and not line.startswith("#")}


def require_program(name: str) -> None:
    """Go on where the program is there; else skip the test, or fail it where everything must be tested."""
    package = debian_packages().get(name)
    if package is None:
        pytest.fail(f"{name} is not in requirements/programs.txt, so .ci/run would not install it", pytrace=False)
    if shutil.which(name) is not None:
        return
    if os.environ.get(REQUIRE):
        pytest.fail(f"there is no {name}, and {REQUIRE} is set; Debian's package {package} has it", pytrace=False)
    pytest.skip(f"NOT TESTED HERE: there is no {name}; install Debian's package {package} to run this")
