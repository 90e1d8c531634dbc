"""Loading a config: file, environment, secrets; all problems at once."""

import copy
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from walnatsd.config import checks, environment, yaml_file
from walnatsd.config.problems import NO_FILE, ConfigError, Location, Problem, real_location, translate, with_sources
from walnatsd.config.secrets import Secrets, read_secret
from walnatsd.config.settings import Config
from walnatsd.config.usable import what_is_doubtful, what_is_unusable, what_is_unusable_in_declarations
from walnatsd.model.declared import Secret

_REQUIRED = frozenset({"name", "event"})
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
    lines: Mapping[Location, int] = field(default_factory=dict, repr=False)
    """The line of each key and item of the file."""

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
    return load_text(_read(file), file=file, environ=environ)


def load_declarations(file: str) -> Loaded:
    """Load a file for what it declares, where nothing is connected to anything.

    The environment adds nothing, and no secret, certificate or credentials file is looked at: they need not be there. The
    schemas of events are; they must.

    Raises:
        ConfigError: With all problems at once.
    """
    return load_text(_read(file), file=file, environ={}, declarations_only=True)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem((), f"can't read it: {error.strerror}")], file) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem((), "it is not UTF-8 text")], file) from None


def load_text(
    text: str, *, file: str | None, environ: Mapping[str, str] = os.environ, declarations_only: bool = False
) -> Loaded:
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
    problems += checks.secrets_stand_elsewhere(data)
    origins, warnings = environment.overlay(data, environ)
    config = None
    values: dict[Secret, str] = {}

    def see_secret(secret: Secret) -> None:
        values[secret] = read_secret(secret, environ)

    looks = {} if declarations_only else {"see_file": _see_file, "see_secret": see_secret}
    try:
        config = Config.model_validate(data, context={"base_dir": base_dir} | looks)
    except ValidationError as error:
        errors = error.errors()
        broken_rules, sound = _without_what_is_wrong(data, errors, base_dir)
        problems += translate([*errors, *broken_rules], data, Config)
    else:
        sound = config
    if sound is not None:
        problems += what_is_unusable_in_declarations(sound, values)
        if not declarations_only:
            problems += what_is_unusable(sound, values)
            problems += checks.addresses_differ(sound)
    problems += checks.declarations_fit(data)
    problems += checks.listens_safely(data)
    problems += checks.options_without_effect(data)
    if problems or config is None:
        raise ConfigError(with_sources(problems, lines, origins), file)
    doubtful = [] if declarations_only else what_is_doubtful(config, time.time())
    warnings += map(str, with_sources(doubtful, lines, origins))
    return Loaded(config, Secrets(values), tuple(warnings), file, environ, lines)


def _without_what_is_wrong(
    data: dict[str, Any], errors: list[ErrorDetails], base_dir: str
) -> tuple[list[ErrorDetails], Config | None]:
    """Look at what is left when the bad is set aside, so that all problems are told at once.

    Returns:
        Broken rules that span several fields of a declaration, which are looked at only where each field is fine, and a
        config of all that is right; None where there is none.
    """
    rest, context = copy.deepcopy(data), {"base_dir": base_dir}
    for error in errors:
        _take_out(rest, error, data)
    try:
        return [], Config.model_validate(rest, context=context)
    except ValidationError as error:
        found = error.errors()
    known = {error["loc"] for error in errors}
    broken_rules = [each for each in found if _is_of_a_declaration(each) and each["loc"] not in known]
    before = copy.deepcopy(rest)
    for each in found:
        _take_out(rest, each, before)
    try:
        return broken_rules, Config.model_validate(rest, context=context)
    except ValidationError:
        return broken_rules, None


def _is_of_a_declaration(error: ErrorDetails) -> bool:
    """Whether an error is a broken rule of an event or actor as a whole."""
    return error["type"] == "value_error" and error["loc"][:-1] in {("events",), ("actors",)}


def _take_out(rest: dict[str, Any], error: ErrorDetails, data: dict[str, Any]) -> None:
    """Take what an error is about out of the rest of the data that it was found in."""
    if _is_of_a_declaration(error):  # any of its keys may be the reason
        part, index = str(error["loc"][0]), int(error["loc"][1])
        if part in rest:  # all of them may have been taken out before
            declaration = rest[part][index]
            rest[part][index] = {key: declaration[key] for key in _REQUIRED & declaration.keys()}
        return
    location = real_location(error, data)
    if error["type"] == "missing" and location and location[-1] not in _REQUIRED:
        location = location[:-1]  # there is nothing to take out but what lacks it
    _set_aside(rest, location)


def _set_aside(data: Any, location: Location) -> None:
    """Take the innermost key of a location out of the data, or put something harmless there where it is required."""
    while location and not isinstance(location[-1], str):
        location = location[:-1]
    for part in location[:-1]:
        if isinstance(data, dict) and part not in data:
            return  # what held it was taken out before
        data = data[part]
    if location and isinstance(data, dict):
        data.pop(location[-1], None)
        if location[-1] in _REQUIRED:
            data[location[-1]] = "placeholder"


def _see_file(path: str) -> None:
    try:
        readable = Path(path).is_file() and os.access(path, os.R_OK)
    except (OSError, ValueError):  # too long, or not even a name
        readable = False
    if not readable:
        raise PydanticCustomError(NO_FILE, "there is no readable file {path}", {"path": path[:200]})
