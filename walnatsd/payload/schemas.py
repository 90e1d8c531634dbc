"""Schemas of events: a payload that does not fit is refused when it is emitted."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from walnatsd.model.event import Schema
from walnatsd.payload.schema_files import INSTALL, MAX_ERROR_LENGTH, first_line, open_message, read_json, read_uri
from walnatsd.payload.strict_json import refuse_constant

MAX_ERRORS = 5


class SchemaError(Exception):
    """A payload does not fit its schema; in words that point into it."""


class PayloadSchema(Protocol):
    """A compiled schema."""

    def check(self, payload: bytes, content_type: str) -> None:
        """See that a payload fits.

        Args:
            payload: As it was emitted, before the codecs.
            content_type: Its media type.

        Raises:
            SchemaError: It does not.
        """


def open_schema(declared: Schema) -> PayloadSchema:
    """Compile the schema of an event.

    Raises:
        ValueError: The file can't be used; in words.
    """
    if declared.json_schema is not None:
        return JsonSchema(Path(declared.json_schema))
    assert declared.protobuf is not None
    assert declared.message is not None
    return Protobuf(Path(declared.protobuf), declared.message)


class JsonSchema:
    """A JSON Schema (drafts 4 to 2020-12), compiled. `$ref` may point to other files, and nowhere outside the disk."""

    def __init__(self, path: Path) -> None:
        try:
            import jsonschema_rs  # noqa: PLC0415 - optional, and 6 MB of memory
        except ImportError:
            raise ValueError(INSTALL) from None
        schema = read_json(path)
        try:
            jsonschema_rs.meta.validate(schema)
            self._validator = jsonschema_rs.validator_for(schema, retriever=read_uri, base_uri=path.absolute().as_uri())
        except jsonschema_rs.ValidationError as error:
            place = pointer(error.instance_path)
            raise ValueError(f"{path} is no JSON Schema: {place or 'the top'}: {error.message}") from None
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise ValueError(f"{path} can't be used as a JSON Schema: {first_line(error)}") from None

    def check(self, payload: bytes, content_type: str) -> None:  # noqa: ARG002 - JSON is wanted, whatever it is called
        """See that a payload is JSON that fits; raises SchemaError."""
        try:
            value = json.loads(payload.decode(), parse_constant=refuse_constant)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"the payload is not JSON: {first_line(error)}") from None
        found = list(itertools.islice(self._validator.iter_errors(value), MAX_ERRORS + 1))
        words = [_in_words(each) for each in found[:MAX_ERRORS]] + ["and more"] * (len(found) > MAX_ERRORS)
        if words:
            raise SchemaError("; ".join(words))


class Protobuf:
    """A message of a compiled descriptor set (`protoc --include_imports -o FILE`)."""

    def __init__(self, path: Path, message: str) -> None:
        descriptor = open_message(path, message)
        from google.protobuf import json_format, message_factory  # noqa: PLC0415 - without schemas nobody needs it
        from google.protobuf.message import DecodeError  # noqa: PLC0415

        self._message: Any = message_factory.GetMessageClass(descriptor)
        self._from_json: Callable[..., Any] = json_format.Parse
        self._errors = (DecodeError, json_format.ParseError)
        self._name = message

    def check(self, payload: bytes, content_type: str) -> None:
        """See that a payload is such a message, in JSON where the media type says so; raises SchemaError."""
        message = self._message()
        try:
            if "json" in content_type.lower():
                self._from_json(payload, message)
            else:
                message.ParseFromString(payload)
        except (*self._errors, UnicodeDecodeError) as error:
            raise SchemaError(f"the payload is no {self._name}: {first_line(error)}") from None
        if not message.IsInitialized():
            missing = ", ".join(message.FindInitializationErrors())
            raise SchemaError(f"the payload is no {self._name}: {missing} is missing")


def _in_words(error: Any) -> str:
    place = pointer(error.instance_path)
    return (f"{place}: " if place else "") + str(error.message)[:MAX_ERROR_LENGTH]


def pointer(path: list[str | int]) -> str:
    """Write a place as a JSON pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
