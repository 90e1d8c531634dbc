"""Decoded JSON as the types that it is declared to be.

A handler that is promised an `int` gets an `int`, or the payload is no payload of that event: found out here, it is one
clear dead letter; found out in the handler, it would be twenty attempts and a stack trace.
"""

import dataclasses
from contextlib import suppress
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def as_type(value: Any, hint: Any, path: str = "$") -> Any:
    """Return a decoded JSON value as the type it is declared to be.

    Dataclasses are built, at any depth. Keys that a dataclass doesn't know are ignored, as pydantic does: an emitter
    that adds a field must not make dead letters. Annotations that are none of JSON's types are not checked.

    Args:
        value: What `json.loads` returned.
        hint: The annotation.
        path: Where the value stands, for the text of the error.

    Raises:
        ValueError: It is something else.
    """
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _as_dataclass(_expect(value, dict, path), kind, path)
    if kind is list:
        items = _expect(value, list, path)
        return [as_type(item, arguments[0], f"{path}[{n}]") for n, item in enumerate(items)] if arguments else items
    if kind is tuple:
        return _as_tuple(_expect(value, list, path), arguments, path)
    if kind is dict:
        items = _expect(value, dict, path)
        return (
            {key: as_type(item, arguments[1], f"{path}.{key}") for key, item in items.items()} if arguments else items
        )
    if kind is Union or kind is UnionType:
        return _as_one_of(value, arguments, path)
    if kind is Literal:
        return (
            next(choice for choice in arguments if choice == value) if value in arguments else _fail(value, hint, path)
        )
    if kind is float and isinstance(value, int):  # JSON has one kind of number, and JavaScript writes 1.0 as 1
        return _as_float(value, path)
    if kind in (int, float, str, bool, type(None)):
        return _expect(value, kind, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value


@cache
def field_types(schema: type) -> dict[str, Any]:
    """Types of the fields that a dataclass is built from.

    Raises:
        TypeError: An annotation names something that can't be found.
    """
    try:
        hints = get_type_hints(schema)
    except NameError as error:
        raise TypeError(f"the annotations of {schema.__qualname__} can't be resolved: {error}") from error
    return {field.name: hints[field.name] for field in dataclasses.fields(schema) if field.init}


def _as_dataclass(items: dict[str, Any], schema: type, path: str) -> Any:
    types = field_types(schema)
    for field in dataclasses.fields(schema):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.init and required and field.name not in items:
            raise ValueError(f"{path}.{field.name} is missing")
    return schema(**{name: as_type(items[name], types[name], f"{path}.{name}") for name in types if name in items})


def _as_tuple(items: list[Any], arguments: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if not arguments:
        return tuple(items)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(items)
    if len(items) != len(arguments):
        raise ValueError(f"{path}: expected {len(arguments)} items, got {len(items)}")
    pairs = zip(items, arguments, strict=True)
    return tuple(as_type(item, hint, f"{path}[{n}]") for n, (item, hint) in enumerate(pairs))


def _as_one_of(value: Any, hints: tuple[Any, ...], path: str) -> Any:
    if type(value) in hints:
        return value  # else a float that is named first would take a whole number
    for hint in hints:
        with suppress(ValueError):
            return as_type(value, hint, path)
    return _fail(value, Union[hints], path)  # noqa: UP007 - the members are known at run time only


def _as_float(value: int, path: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{path}: the number is too large for a float") from None


def _expect(value: Any, kind: type, path: str) -> Any:
    return value if isinstance(value, kind) else _fail(value, kind, path)


def _fail(value: Any, hint: Any, path: str) -> Any:
    expected = hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")
    raise ValueError(f"{path}: expected {expected}, got {type(value).__name__}")
