"""What can be wrong with a config, in words that say what to do."""

import builtins
import difflib
import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

_MAPPING = "should be a mapping of keys"
_LIST = "should be a list"
_TEXT = "should be text"
_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "tuple_type": _LIST,
    "too_short": "should have at least one item",
    "string_type": _TEXT,
    "string_too_short": "should not be empty",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "int_parsing_size": "should be a whole number of at most 18 digits",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}
"""Pydantic's kinds of errors in the words of YAML."""

_SECRET = "a secret is {env: NAME} or {file: PATH} and never stands in the file itself"  # noqa: S105 - a message
_TEXT_OR_SECRET = "should be text, or a secret: {env: NAME} or {file: PATH}"  # noqa: S105 - a message
_SHOWN_LENGTH = 100
NO_FILE = "no_file"
"""The kind of error that says which file is missing."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    location: Location
    """Where: keys and indexes from the top of the file."""
    message: str
    """What is wrong and what to do about it."""
    source: str = ""
    """A line of the file or the name of an environment variable, where known."""

    def __str__(self) -> str:
        place = f"{render(self.location)}: " if self.location else ""
        return f"{place}{self.message}" + (f" ({self.source})" if self.source else "")


class ConfigError(Exception):
    """The config can't be used. All problems are listed, not only the first."""

    def __init__(self, problems: Iterable[Problem], file: str | None) -> None:
        self.problems = tuple(problems)
        self.file = file
        super().__init__(
            "\n".join([f"{file or 'the configuration'} can't be used:", *(f"  {p}" for p in self.problems)])
        )


def with_sources(
    problems: Iterable[Problem], lines: Mapping[Location, int], origins: Mapping[Location, str]
) -> Iterator[Problem]:
    """Add the line or the environment variable that each problem comes from, in the order of the file."""
    placed = []
    for problem in problems:
        line = line_of(problem.location, lines)
        variable = next((origins[at] for at in _upwards(problem.location) if at in origins), "")
        source = problem.source or variable or (f"line {line}" if line else "")
        placed.append((line, Problem(problem.location, problem.message, source)))
    return (problem for _, problem in sorted(placed, key=lambda pair: pair[0]))


def line_of(location: Location, lines: Mapping[Location, int]) -> int:
    """Find the line of a place, or of the nearest place above it that has one; 0 where none has."""
    return next((lines[at] for at in _upwards(location) if at in lines), 0)


def _upwards(location: Location) -> Iterator[Location]:
    while location:
        yield location
        location = location[:-1]


def render(location: Location) -> str:
    """Write a location as `actors[2].retry.delays[0]`. A key that could not be seen, or breaks the line, stands as Python has it."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if part.strip() and part.isprintable() else repr(part)
            text += f".{key}" if text else key
    return text


def translate(errors: Iterable[ErrorDetails], data: object, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into problems: real paths, remedies, one problem per place."""
    messages: dict[Location, list[str]] = {}
    for error in errors:
        if error["type"] == "too_short" and error["input"]:
            continue  # items that have errors of their own are not counted
        location = real_location(error, data)
        message = _message(error, location, model)
        known = messages.setdefault(location, [])
        if message not in known:
            known.append(message)
    # where one branch of a union looks deeper, the branch that would be text has nothing to add
    deeper = {location[:-1] for location in messages}
    return [
        Problem(location, _joined(texts))
        for location, texts in messages.items()
        if not (location in deeper and texts == [_TEXT])
    ]


def _joined(texts: list[str]) -> str:
    """Make one sentence of what each branch of a union says about a value."""
    if _SECRET in texts and len(texts) > 1:
        texts = [text for text in texts if text != _SECRET]
        if texts[0].startswith(_TEXT):
            return _TEXT_OR_SECRET
    if len(texts) > 1:
        texts = [text for text in texts if text != _TEXT]
    return ", or ".join(texts)


def real_location(error: ErrorDetails, data: object) -> Location:
    """Drop the parts of pydantic's location that name a branch of a union and no key of the file."""
    location: list[str | int] = []
    here = data
    for part in error["loc"]:
        try:
            here = here[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            if error["type"] != "missing" or part != error["loc"][-1]:
                continue
        location.append(part)
    return tuple(location)


def _message(error: ErrorDetails, location: Location, model: type[BaseModel]) -> str:
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(location, model)
    if kind == "model_type" and (error.get("ctx") or {}).get("class_name") == "Secret":
        return _SECRET
    text = _WORDS.get(kind) or error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if text in (_MAPPING, _LIST):  # what stands there instead may hold a secret, so it is not shown
        return f"{text}, {_kind_of(given)}"
    if text == _TEXT and given is not None and not isinstance(given, (list, dict)):
        return f"{text}; put it in quotes"
    shown = _shown(given)
    named = isinstance(given, str) and repr(given) in text
    return f"{text}; this is {shown}" if shown and kind != NO_FILE and not named else text


def _kind_of(given: object) -> str:
    """Say what stands where a mapping or a list should be."""
    if given is None:
        return "and nothing stands there; remove the key if you don't need it"
    if isinstance(given, str):
        return "not text"
    return "not a list" if isinstance(given, list) else "not a mapping" if isinstance(given, dict) else "not one value"


def _shown(given: object) -> str:
    """Show a value as the file has it, cut short; empty for mappings and lists. Credentials in an address are hidden."""
    match given:
        case None:
            return "empty"
        case bool():
            return "true" if given else "false"
        case int() if abs(given) > 1 << 64:
            return "a huge number"
        case float() if not math.isfinite(given):
            return f".{given}"
        case int() | float():
            return repr(given)
        case str():
            text = re.sub(r"^.*@", "***@", given, flags=re.DOTALL) if re.search(r"[:/].*@|@.*[:/]", given) else given
            return repr(text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…")
    return ""


def _unknown_key(location: Location, model: type[BaseModel]) -> str:
    known, key = known_keys(location[:-1], model), str(location[-1])
    close = [name for name in known if name.startswith(key)] or difflib.get_close_matches(key, known, n=1)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    return f"unknown key; known here: {', '.join(known)}" if known else "unknown key"


def known_keys(location: Location, model: type[BaseModel]) -> list[str]:
    """List the keys that the schema knows at a place of the file."""
    here: list[Any] = [model]
    for part in location:
        here = [below for annotation in here for below in _below(annotation, part)]
    return [
        field.alias or name
        for annotation in here
        for branch in (annotation, *typing.get_args(annotation))
        if _is_model(branch)
        for name, field in branch.model_fields.items()
    ]


def _below(annotation: Any, part: str | int) -> list[Any]:
    """List the types that a key or an index of a type leads to."""
    if _is_model(annotation):
        return [field.annotation for name, field in annotation.model_fields.items() if (field.alias or name) == part]
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case builtins.dict:
            return [arguments[1]]
        case builtins.tuple:
            return [arguments[0]]
    return [below for argument in arguments for below in _below(argument, part)]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
