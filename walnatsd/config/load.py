"""Loading a config: file, environment, secrets; all problems at once."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from walnatsd.config import checks, environment, yaml_file
from walnatsd.config.problems import ConfigError, Location, Problem, translate
from walnatsd.config.secrets import Secrets, read_secret
from walnatsd.config.settings import Config
from walnatsd.config.usable import what_is_unusable
from walnatsd.model.declared import MustExist, Secret

DEFAULT_FILE = "walnatsd.yaml"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config that can be used."""

    config: Config
    """The settings."""
    secrets: Secrets
    """The values of the secrets it refers to."""
    warnings: tuple[str, ...]
    """What is odd but no error."""
    file: str | None = None
    """Where it was loaded from."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment it was loaded with."""

    def again(self) -> "Loaded":
        """Load the same file again, with the same environment; raises ConfigError."""
        return load(self.file, self.environ)


def load(file: str | None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Load the config from a file, or from `walnatsd.yaml` in the working directory if it is there.

    Raises:
        ConfigError: With all problems at once.
    """
    if file is None and Path(DEFAULT_FILE).is_file():
        file = DEFAULT_FILE
    if file is None:
        return load_text("", file=None, environ=environ)
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem((), f"can't read it: {error.strerror}")], file) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem((), "it is not UTF-8 text")], file) from None
    return load_text(text, file=file, environ=environ)


def load_text(text: str, *, file: str | None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Load the config from text; relative paths are relative to the folder of `file`.

    Raises:
        ConfigError: With all problems at once.
    """
    base_dir = str(Path(file or ".").resolve().parent) if file else str(Path.cwd())
    data, lines, problems = yaml_file.parse(text)
    if data is None:
        if problems:
            raise ConfigError(problems, file)
        data = {}
    if not isinstance(data, dict):
        raise ConfigError([Problem((), "the file is a mapping of keys like nats:, events:, actors:")], file)
    origins, warnings = environment.overlay(data, environ)
    config = None
    values: dict[Secret, str] = {}
    try:
        config = Config.model_validate(data, context={"base_dir": base_dir})
    except ValidationError as error:
        problems += translate(error.errors(), data, Config)
    else:
        problems += _read_inputs(config, environ, values)
        problems += what_is_unusable(config, values)
    problems += checks.declarations_fit(data)
    problems += checks.listens_safely(data)
    problems += checks.not_supported_yet(data)
    if problems or config is None:
        raise ConfigError(_with_sources(problems, lines, origins), file)
    return Loaded(config, Secrets(values), tuple(warnings), file, environ)


def _read_inputs(config: Config, environ: Mapping[str, str], values: dict[Secret, str]) -> Iterator[Problem]:
    """Read the secrets, and see that the files are there which are read later."""
    for location, value, metadata in _leaves(config, ()):
        if isinstance(value, Secret):
            try:
                values[value] = read_secret(value, environ)
            except ValueError as error:
                yield Problem(location, str(error))
        elif (
            any(isinstance(mark, MustExist) for mark in metadata) and isinstance(value, str) and not _is_readable(value)
        ):
            yield Problem(location, f"there is no readable file {value}")


def _is_readable(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.R_OK)


def _leaves(value: Any, location: Location, metadata: Any = ()) -> Iterator[tuple[Location, Any, Any]]:
    """Walk a model down to its values, secrets counting as values."""
    if isinstance(value, BaseModel) and not isinstance(value, Secret):
        for name, field in type(value).model_fields.items():
            marks = (*field.metadata, *_marks_in(field.annotation))
            yield from _leaves(getattr(value, name), (*location, field.alias or name), marks)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*location, key), metadata)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*location, index), metadata)
    else:
        yield location, value, metadata


def _marks_in(annotation: Any) -> tuple[Any, ...]:
    """Find marks inside unions, like `InputFile | None`."""
    marks = tuple(getattr(annotation, "__metadata__", ()))
    return marks + tuple(mark for argument in getattr(annotation, "__args__", ()) for mark in _marks_in(argument))


def _with_sources(
    problems: list[Problem], lines: Mapping[Location, int], origins: Mapping[Location, str]
) -> Iterator[Problem]:
    """Add the line or the environment variable that each problem comes from, in the order of the file."""
    placed = []
    for problem in problems:
        nearest = next((at for at in _upwards(problem.location) if at in lines), None)
        line = lines[nearest] if nearest is not None else 0
        source = problem.source or origins.get(problem.location, "") or (f"line {line}" if line else "")
        placed.append((line, Problem(problem.location, problem.message, source)))
    return (problem for _, problem in sorted(placed, key=lambda pair: pair[0]))


def _upwards(location: Location) -> Iterator[Location]:
    while location:
        yield location
        location = location[:-1]
