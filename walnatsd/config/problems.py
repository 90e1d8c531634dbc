"""What can be wrong with a config, in words that say what to do."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

_SECRET = "a secret is {env: NAME} or {file: PATH} and never stands in the file itself"  # noqa: S105 - a message


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


def render(location: Location) -> str:
    """Write a location as `actors[2].retry.delays[0]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def translate(errors: Iterable[ErrorDetails], data: object, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into problems: real paths, remedies, one problem per place."""
    messages: dict[Location, list[str]] = {}
    for error in errors:
        location = _real_location(error, data)
        message = _message(error, location, model)
        known = messages.setdefault(location, [])
        if message not in known:
            known.append(message)
    return [
        Problem(location, _SECRET if _SECRET in texts else ", or ".join(texts)) for location, texts in messages.items()
    ]


def _real_location(error: ErrorDetails, data: object) -> Location:
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
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(location, model)
    if kind == "missing":
        return "is required"
    if kind == "model_type" and (error.get("ctx") or {}).get("class_name") == "Secret":
        return _SECRET
    if kind == "value_error":
        text = error["msg"].removeprefix("Value error, ")
    else:
        text = error["msg"][0].lower() + error["msg"][1:]
    given = error["input"]
    if isinstance(given, (str, int, float, bool)) or given is None:
        return f"{text}, not {given!r}"
    return text


def _unknown_key(location: Location, model: type[BaseModel]) -> str:
    known = known_keys(location[:-1], model)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    return f"unknown key; known here: {', '.join(known)}" if known else "unknown key"


def known_keys(location: Location, model: type[BaseModel]) -> list[str]:
    """List the keys that the schema knows at a place of the file."""
    here: list[Any] = [model]
    for part in location:
        below: list[Any] = []
        for candidate in here:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                below += [
                    _type_of(field) for name, field in candidate.model_fields.items() if (field.alias or name) == part
                ]
            else:
                below.append(candidate)
        here = [model_ for annotation in below for model_ in _models_in(annotation)]
    return [
        field.alias or name
        for candidate in here
        if isinstance(candidate, type) and issubclass(candidate, BaseModel)
        for name, field in candidate.model_fields.items()
    ]


def _type_of(field: Any) -> Any:
    return field.annotation


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Find the models that a type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
