"""What is pinned: for development, for the image, for building it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IN_THE_IMAGE = ("nkeys", "cel", "fernet", "jsonschema", "embedded", "otel", "sentry")


def pins(file: str) -> dict[str, tuple[str, str]]:
    """Version and what follows it, by name."""
    text = (ROOT / "requirements" / file).read_text().replace("\\\n", " ")
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\n]+)(.*)$", text, re.MULTILINE)
    return {canonicalize_name(name): (version, rest) for name, version, rest in found}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(text) for text in project["dependencies"] + [each for e in IN_THE_IMAGE for each in extras[e]]]


def test_the_image_pins_every_run_time_dependency_in_the_declared_range() -> None:
    pinned = pins("run.txt")
    for requirement in declared():
        version, _ = pinned.get(canonicalize_name(requirement.name), ("missing", ""))
        assert version != "missing", f"{requirement.name} is not in requirements/run.txt; run: make lock"
        assert version in requirement.specifier, f"{requirement} is pinned to {version}; run: make lock"


def test_the_image_runs_the_versions_that_the_tests_run() -> None:
    tested = pins("dev.txt")
    for file in ("run.txt", "build.txt"):
        for name, (version, _) in pins(file).items():
            assert tested[name][0] == version, f"{name} in requirements/{file}; run: make lock"


@pytest.mark.parametrize("file", ["run.txt", "build.txt"])
def test_what_goes_into_the_image_is_pinned_with_hashes(file) -> None:
    for name, (_, rest) in pins(file).items():
        assert "--hash=sha256:" in rest, name


@pytest.mark.parametrize("file", ["dev.txt", "run.txt", "build.txt", "dev.in", "schemathesis.txt"])
def test_no_registry_stands_in_what_is_pinned(file) -> None:
    text = (ROOT / "requirements" / file).read_text()
    assert "://" not in text
    assert not re.search(r"^(--?(index|extra-index|find-links|trusted-host)|-i\b|-f\b)", text, re.MULTILINE)
