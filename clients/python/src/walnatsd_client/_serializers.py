"""How messages become payloads: the same bytes as the walnats library writes, so that each reads the other's."""

import dataclasses
import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Generic, Protocol, TypeVar, cast, get_origin

from walnatsd_client._json_values import as_type, field_types

T = TypeVar("T")


class Serializer(Protocol[T]):
    """Turns the messages of an event into payloads and back.

    Give an `Event` one of your own where none of the built-in ones fits. Make it immutable: events are hashable.
    """

    @property
    def content_type(self) -> str:
        """Media type of the payloads."""

    def encode(self, message: T, /) -> bytes:
        """Turn a message into a payload."""

    def decode(self, payload: bytes, /) -> T:
        """Turn a payload into a message.

        Raises:
            ValueError: The payload can't ever be decoded; it becomes a dead letter with this text as the reason.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Json(Generic[T]):
    """JSON, compact and in ASCII, for what `json` can write and for dataclasses at any depth."""

    schema: type[T]
    content_type: str = dataclasses.field(default="application/json", init=False)

    def encode(self, message: T, /) -> bytes:
        return json.dumps(message, separators=(",", ":"), default=_fields).encode()

    def decode(self, payload: bytes, /) -> T:
        try:
            return cast("T", as_type(json.loads(payload), self.schema))
        except RecursionError:
            raise ValueError("the payload is nested too deeply") from None


def _fields(value: Any) -> dict[str, Any]:
    """What `json` writes for a value that it doesn't know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__qualname__} can't be written as JSON; a pydantic model may know how")


@dataclasses.dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are."""

    content_type: str = dataclasses.field(default="application/octet-stream", init=False)

    def encode(self, message: bytes, /) -> bytes:
        return message

    def decode(self, payload: bytes, /) -> bytes:
        return payload


@dataclasses.dataclass(frozen=True, slots=True)
class IsoText:
    """ISO 8601 text.

    walnats writes it without the quotes that would make it JSON, so `application/json` would be a lie that breaks
    every actor in another language; it is `text/plain`.
    """

    schema: type[date]
    content_type: str = dataclasses.field(default="text/plain", init=False)

    def encode(self, message: date, /) -> bytes:
        return message.isoformat().encode()

    def decode(self, payload: bytes, /) -> date:
        return self.schema.fromisoformat(payload.decode())


class _Model(Protocol):
    """The part of a pydantic 2 model that is needed here; naming it this way imports nothing."""

    model_validate_json: Callable[[bytes], Any]

    def model_dump_json(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Pydantic:
    """JSON as pydantic writes it: compact, in UTF-8."""

    schema: type[_Model]
    content_type: str = dataclasses.field(default="application/json", init=False)

    def encode(self, message: _Model, /) -> bytes:
        return message.model_dump_json().encode()

    def decode(self, payload: bytes, /) -> _Model:
        return cast("_Model", self.schema.model_validate_json(payload))


def serializer_for(schema: type[T]) -> Serializer[T]:
    """Pick the serializer of a schema.

    Raises:
        TypeError: There is none.
    """
    kind: Any = get_origin(schema) or schema
    serializer: Any
    if hasattr(kind, "model_validate_json"):
        serializer = Pydantic(kind)
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        field_types(kind)  # annotations that can't be resolved shall fail here, not on the first delivery
        serializer = Json(schema)
    elif kind in (int, float, str, bool, list, dict, type(None)):
        serializer = Json(schema)
    elif kind is bytes:
        serializer = Raw()
    elif kind in (datetime, date):
        serializer = IsoText(kind)
    else:
        raise TypeError(
            f"no serializer for {schema!r}: use int, float, str, bool, list, dict, None, bytes, datetime, date, "
            "a dataclass or a pydantic model, or give the event a serializer"
        )
    return cast("Serializer[T]", serializer)
