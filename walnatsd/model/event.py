"""An event: a declared kind of fact."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from walnatsd.model.declared import Declared, InputFile, NoBoolean, PositiveInt, Secret
from walnatsd.model.names import EventName, stream_name
from walnatsd.model.units import PositiveDuration, Size


class Limits(Declared):
    """Limits of an event's stream. Only what is declared is written; what is not keeps the server's value."""

    age: Annotated[PositiveDuration, Field(ge=0.1)] | None = None
    """How long a message is kept at most."""
    consumers: PositiveInt | None = None
    """How many actors the event may have."""
    messages: PositiveInt | None = None
    """How many messages the stream may hold."""
    bytes: Size | None = None
    """How many bytes the stream may hold."""
    message_size: Annotated[Size, Field(lt=1 << 31)] | None = None
    """The largest message that the stream accepts, headers included."""
    when_full: Literal["drop_oldest", "refuse"] = "drop_oldest"
    """What happens when `messages` or `bytes` is reached: drop the oldest message, or refuse new ones."""


class Gzip(Declared):
    """Compression with gzip."""

    level: Annotated[int, Field(ge=0, le=9), NoBoolean] = 9
    """0 (none) to 9 (smallest)."""


class Hmac(Declared):
    """A keyed digest in front of the payload."""

    keys: Annotated[tuple[Secret, ...], Field(min_length=1)]
    """Newest first; the first one signs, all of them verify."""
    hash: str = "sha512"
    """Name of the hash, as Python's hashlib knows it."""


class Fernet(Declared):
    """Encryption with Fernet."""

    keys: Annotated[tuple[Secret, ...], Field(min_length=1)]
    """Newest first; the first one encrypts, all of them decrypt."""


class Codec(Declared):
    """One step between the payload and what is stored. Exactly one key."""

    gzip: Gzip | None = None
    """Compress."""
    hmac: Hmac | None = None
    """Sign."""
    fernet: Fernet | None = None
    """Encrypt."""

    @model_validator(mode="after")
    def _one_codec(self) -> "Codec":
        if sum(codec is not None for codec in (self.gzip, self.hmac, self.fernet)) != 1:
            raise ValueError("a codec is one of {gzip: …}, {hmac: …}, {fernet: …}")
        return self


class Schema(Declared):
    """What payloads must look like."""

    json_schema: InputFile | None = None
    """Path of a JSON Schema."""
    protobuf: InputFile | None = None
    """Path of a compiled descriptor set."""
    message: str | None = None
    """Full name of the message in the descriptor set."""

    @model_validator(mode="after")
    def _one_schema(self) -> "Schema":
        if (self.json_schema is None) == (self.protobuf is None) or (self.protobuf is None) != (self.message is None):
            raise ValueError("give either {json_schema: FILE} or {protobuf: FILE, message: NAME}")
        return self


class Event(Declared):
    """An event and the stream that holds it."""

    name: EventName
    """Unique name. It names the stream and the subject in NATS, so it can't be changed later."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """What the event means, for people; shown as the stream's description."""
    limits: Limits = Limits()
    """Limits of the stream."""
    duplicate_window: Annotated[PositiveDuration, Field(ge=0.1)] = 120.0
    """How long a uid is remembered; not longer than limits.age."""
    replicas: Annotated[int, Field(ge=1, le=5), NoBoolean] = 1
    """Copies in a NATS cluster."""
    storage: Literal["file", "memory"] = "file"
    """Where the stream lives; fixed at creation."""
    min_actors: Annotated[int, Field(ge=0), NoBoolean] = 0
    """Emitting is refused while the event has fewer actors."""
    codecs: tuple[Codec, ...] = ()
    """Applied to the payload in this order on emit, undone in reverse on delivery."""
    payload_schema: Annotated[Schema | None, Field(alias="schema")] = None
    """Emitting a payload that does not fit is refused."""
    example: Any = None
    """An example payload, for documents."""

    @model_validator(mode="after")
    def _uids_go_with_messages(self) -> "Event":
        age = self.limits.age
        if age is not None and "duplicate_window" in self.model_fields_set and self.duplicate_window > age:
            raise ValueError(f"duplicate_window ({self.duplicate_window:g}s) must not be above limits.age ({age:g}s)")
        return self

    @property
    def stream(self) -> str:
        """Name of the event's stream."""
        return stream_name(self.name)
