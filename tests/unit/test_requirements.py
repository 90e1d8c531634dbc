"""What is pinned: for development, for the image, for building it."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = ("walnatsd", "walnatsd-client")
IN_THE_IMAGE = ("nkeys", "cel", "fernet", "jsonschema", "embedded", "otel", "sentry")


def pins(file: str) -> dict[str, tuple[str, str]]:
    """Version and what follows it, by name."""
    text = (ROOT / "requirements" / file).read_text().replace("\\\n", " ")
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\n]+)(.*)$", text, re.MULTILINE)
    return {canonicalize_name(name): (version, rest) for name, version, rest in found}


def of_development() -> Iterator[tuple[str, Requirement]]:
    """All that development needs, each with the file that says so: of both distributions with all extras, and dev.in."""
    for file in ("pyproject.toml", "clients/python/pyproject.toml"):
        project = tomllib.loads((ROOT / file).read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        for text in [*project["dependencies"], *(each for extra in extras for each in extra)]:
            yield file, Requirement(text)
    for line in (ROOT / "requirements" / "dev.in").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield "requirements/dev.in", Requirement(line)


def test_development_pins_all_that_it_needs_in_the_declared_ranges() -> None:
    pinned = pins("dev.txt")
    for file, requirement in of_development():
        name = canonicalize_name(requirement.name)
        if name in OURS or (requirement.marker is not None and not requirement.marker.evaluate()):
            continue
        version, _ = pinned.get(name, ("missing", ""))
        assert version in requirement.specifier, f"{file}: {requirement} is pinned to {version}; run: make lock"


def test_what_is_pinned_fits_together() -> None:
    """What the pinned packages say that they need themselves, as far as they are installed here."""
    pinned = pins("dev.txt")
    for name, (version, _) in pinned.items():
        distribution = metadata.distribution(name)
        assert distribution.version == version, f"{name} is installed as {distribution.version}; run: make setup"
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            other, _ = pinned.get(canonicalize_name(requirement.name), ("missing", ""))
            assert other in requirement.specifier, f"{name} needs {requirement}, pinned to {other}; run: make lock"


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
