"""How messages become payloads: the same bytes as the walnats library writes, so that each reads the other's."""

import dataclasses
import json
import sys
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Generic, Protocol, TypeVar, cast, get_origin

from google.protobuf.message import DecodeError, Message

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
    """What is written for a value that neither JSON nor MessagePack knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(
        f"{type(value).__qualname__} can't be written as JSON or MessagePack; a pydantic model may know how"
    )


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

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Pydantic:
    """What pydantic 2 makes of a model, as JSON in ASCII.

    These are the bytes of walnats, which needs pydantic 1, but for types like datetime that pydantic 2 writes otherwise.
    """

    schema: type[_Model]
    content_type: str = dataclasses.field(default="application/json", init=False)

    def encode(self, message: _Model, /) -> bytes:
        return json.dumps(message.model_dump(mode="json"), separators=(",", ":")).encode()

    def decode(self, payload: bytes, /) -> _Model:
        from pydantic import ValidationError  # noqa: PLC0415 - it is there where there is a model

        try:
            return cast("_Model", self.schema.model_validate_json(payload))
        except ValidationError as error:  # its own text has values of the payload, and this one gets into logs
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            raise ValueError("; ".join(_told(each["loc"], each["msg"]) for each in problems)) from None


def _told(place: tuple[int | str, ...], problem: str) -> str:
    return f"{'.'.join(map(str, place))}: {problem}" if place else problem


class _Pydantic1Model(Protocol):
    """The part of a pydantic 1 model that is needed here."""

    parse_raw: Callable[[bytes], Any]

    def json(self, *, separators: tuple[str, str]) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Pydantic1:
    """JSON as pydantic 1 writes it."""

    schema: type[_Pydantic1Model]
    content_type: str = dataclasses.field(default="application/json", init=False)

    def encode(self, message: _Pydantic1Model, /) -> bytes:
        return message.json(separators=(",", ":")).encode()

    def decode(self, payload: bytes, /) -> _Pydantic1Model:
        return cast("_Pydantic1Model", self.schema.parse_raw(payload))


@dataclasses.dataclass(frozen=True, slots=True)
class Protobuf:
    """Protobuf's binary format."""

    schema: type[Message]
    content_type: str = dataclasses.field(default="application/protobuf", init=False)

    def encode(self, message: Message, /) -> bytes:
        return message.SerializeToString()

    def decode(self, payload: bytes, /) -> Message:
        try:
            return self.schema.FromString(payload)
        except DecodeError as error:
            raise ValueError(str(error)) from None


class MarshmallowSchema(Protocol):
    """The part of a marshmallow schema that is needed here."""

    def dumps(self, obj: Any, /) -> str:
        """Write a message."""

    def loads(self, json_data: str, /) -> Any:
        """Read a message."""


@dataclasses.dataclass(frozen=True, slots=True)
class Marshmallow:
    """JSON as a marshmallow schema writes it; the messages are what the schema loads, dictionaries mostly."""

    schema: type[MarshmallowSchema]
    content_type: str = dataclasses.field(default="application/json", init=False)

    def encode(self, message: Any, /) -> bytes:
        return self.schema().dumps(message).encode()

    def decode(self, payload: bytes, /) -> Any:
        from marshmallow import ValidationError  # noqa: PLC0415 - it is there where there is a schema

        try:
            return self.schema().loads(payload.decode())
        except ValidationError as error:
            raise ValueError(str(error)) from None


@dataclasses.dataclass(frozen=True)
class MessagePack(Generic[T]):
    """MessagePack, for what JSON can write, for bytes, and for dataclasses at any depth.

    ```python
    BLOBS = Event("blobs", dict, serializer=MessagePack())
    PARCEL = Event("parcels", Parcel, serializer=MessagePack(Parcel))
    ```

    Needs the extra `walnatsd-client[msgpack]`.

    Raises:
        ModuleNotFoundError: It is not installed.
    """

    schema: type[T] | None = None
    """What a payload must be, as for JSON; None takes whatever it is."""
    content_type: str = dataclasses.field(default="application/vnd.msgpack", init=False)

    def __post_init__(self) -> None:
        try:
            import msgpack  # noqa: F401, PLC0415 - needed by nothing else
        except ModuleNotFoundError:
            raise ModuleNotFoundError("MessagePack needs: pip install walnatsd-client[msgpack]") from None

    def encode(self, message: T, /) -> bytes:
        """Turn a message into a payload."""
        import msgpack  # noqa: PLC0415

        return cast("bytes", msgpack.packb(message, default=_fields))

    def decode(self, payload: bytes, /) -> T:
        """Turn a payload into a message.

        Raises:
            ValueError: The payload is no MessagePack, or not of the schema.
        """
        import msgpack  # noqa: PLC0415

        try:
            message = msgpack.unpackb(payload, strict_map_key=False)
        except TypeError as error:  # a map whose key can't be one of a dict
            raise ValueError(str(error)) from None
        return cast("T", message if self.schema is None else as_type(message, self.schema))


def serializer_for(schema: type[T]) -> Serializer[T]:
    """Pick the serializer of a schema.

    Raises:
        TypeError: There is none.
    """
    kind: Any = get_origin(schema) or schema
    serializer: Any
    if hasattr(kind, "model_validate_json"):
        serializer = Pydantic(kind)
    elif hasattr(kind, "parse_raw") and hasattr(kind, "__fields__"):
        serializer = Pydantic1(kind)
    elif isinstance(kind, type) and issubclass(kind, Message):
        serializer = Protobuf(kind)
    elif _is_marshmallow_schema(kind):
        serializer = Marshmallow(kind)
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
            "a dataclass, a pydantic model, a protobuf message or a marshmallow schema, or give the event a serializer"
        )
    return cast("Serializer[T]", serializer)


def _is_marshmallow_schema(kind: Any) -> bool:
    marshmallow = sys.modules.get("marshmallow")  # who has a schema has imported it
    return marshmallow is not None and isinstance(kind, type) and issubclass(kind, marshmallow.Schema)
