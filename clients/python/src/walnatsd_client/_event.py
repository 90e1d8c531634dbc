"""Declarations of events."""

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack, overload

from walnatsd_client._serializers import MarshmallowSchema, Serializer, serializer_for
from walnatsd_client._wire import emit_head

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of an event's stream. What is None is not declared: the value in NATS stays, at first none."""

    age: float | None = None
    """How long a message is kept at most, in seconds."""
    consumers: int | None = None
    """How many actors the event may have."""
    messages: int | None = None
    """How many messages the stream may hold."""
    bytes: int | None = None
    """How many bytes the stream may hold."""
    message_size: int | None = None
    """The largest message that the stream accepts, in bytes, headers included."""
    when_full: Literal["drop_oldest", "refuse"] | None = None
    """What happens when `messages` or `bytes` is reached. At first `drop_oldest`; with `refuse`, an emit raises
    `CapacityError`."""


class _Options(TypedDict, Generic[T], total=False):
    """The options of `Event`, for the type checker. A test holds them equal to the fields."""

    serializer: Serializer[T] | None
    description: str | None
    limits: Limits
    duplicate_window: float | None
    replicas: int | None
    storage: Literal["file", "memory"] | None
    min_actors: int | None


@dataclass(frozen=True)  # no slots: `Event[int](…)` would fail in Python 3.11
class Event(Generic[T]):
    """A declared kind of fact. What is None is not declared: the value in NATS stays, at first the default named here.

    ```python
    COUNT = Event("counts", int)
    ```

    Raises:
        TypeError: The schema has no built-in serializer and none is given.
    """

    name: str
    """Unique name, like `parcel-sent`. It names the stream and the subject in NATS, so it can't be changed later."""
    schema: type[T]
    """Type of the messages: int, float, str, bool, list, dict, None, bytes, datetime, date, a dataclass, a pydantic
    model, a protobuf message, or a marshmallow schema. `list[X]` and `dict[str, X]` are checked on the way in."""
    serializer: Serializer[T] | None = field(default=None, kw_only=True)
    """How messages become payloads; None picks a built-in one by the schema."""
    description: str | None = field(default=None, kw_only=True)
    """What the event means, for people."""
    limits: Limits = field(default=Limits(), kw_only=True)
    """Limits of the stream."""
    duplicate_window: float | None = field(default=None, kw_only=True)
    """How long a uid is remembered, in seconds. At first 120."""
    replicas: int | None = field(default=None, kw_only=True)
    """Copies in a NATS cluster. At first 1."""
    storage: Literal["file", "memory"] | None = field(default=None, kw_only=True)
    """Where the stream lives; fixed at creation. At first `file`."""
    min_actors: int | None = field(default=None, kw_only=True)
    """An emit raises `ConflictError` while the event has fewer actors. At first 0: without an actor, nothing is
    stored."""
    _serializer: Serializer[T] = field(init=False, repr=False, compare=False)

    if TYPE_CHECKING:
        # `type[T]` doesn't take None, so the schema None needs an overload; at run time dataclass writes __init__.
        @overload
        def __init__(self: "Event[None]", name: str, schema: None, **options: Unpack[_Options[None]]) -> None: ...
        # The messages of a marshmallow schema are what it loads, which no type checker can know.
        @overload
        def __init__(
            self: "Event[Any]", name: str, schema: type[MarshmallowSchema], **options: Unpack[_Options[Any]]
        ) -> None: ...
        @overload
        def __init__(self, name: str, schema: type[T], **options: Unpack[_Options[T]]) -> None: ...
        def __init__(self, name: str, schema: type[Any] | None, **options: Unpack[_Options[Any]]) -> None: ...

    def __post_init__(self) -> None:
        if self.schema is None:
            object.__setattr__(self, "schema", type(None))
        object.__setattr__(self, "_serializer", self.serializer or serializer_for(self.schema))

    def with_response(self, schema: type[R]) -> "EventWithResponse[T, R]":
        """Give the same event with a response: `request` waits for one, and what its actors return answers it.

        Raises:
            TypeError: The schema has no built-in serializer.
        """
        declared: Any = {each.name: getattr(self, each.name) for each in fields(Event) if each.init}
        return EventWithResponse(**declared, response_schema=schema)

    @property
    def content_type(self) -> str:
        """Media type of the payloads."""
        return self._serializer.content_type

    @cached_property
    def _wire_head(self) -> bytes:
        """What its emits begin with on their way to the sidecar."""
        return emit_head(self.name, self.content_type)

    def encode(self, message: T) -> bytes:
        """Turn a message into a payload, byte for byte as the walnats library does."""
        return self._serializer.encode(message)

    def decode(self, payload: bytes) -> T:
        """Turn a payload into a message.

        Raises:
            ValueError: The payload is not of the event's schema.
        """
        return self._serializer.decode(payload)


@dataclass(frozen=True)  # no slots: `EventWithResponse[int](…)` would fail in Python 3.11
class EventWithResponse(Event[T], Generic[T, R]):
    """An event whose emitter may wait for an answer. Made by `Event.with_response`."""

    response_schema: Any = field(default=None, kw_only=True)
    """Type of the answers."""
    _response_serializer: Serializer[R] = field(init=False, repr=False, compare=False)

    if TYPE_CHECKING:

        def __init__(self, name: str, schema: type[Any], *, response_schema: type[Any], **options: Any) -> None: ...

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        object.__setattr__(self, "_response_serializer", serializer_for(self.response_schema or type(None)))

    @property
    def response_content_type(self) -> str:
        """Media type of the answers."""
        return self._response_serializer.content_type

    def encode_response(self, response: R) -> bytes:
        """Turn an answer into a payload, byte for byte as the walnats library does."""
        return self._response_serializer.encode(response)

    def decode_response(self, payload: bytes) -> R:
        """Turn a payload into an answer.

        Raises:
            ValueError: The payload is not of the response's schema.
        """
        return self._response_serializer.decode(payload)
