"""Live feeds: what is emitted, as it is emitted."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc

from walnatsd_client._errors import SIDECAR_UNAVAILABLE, UnavailableError, UnknownEventError, WalnatsdError
from walnatsd_client._event import Event
from walnatsd_client._listen import ending_of
from walnatsd_client._proto import events_pb2, message_pb2
from walnatsd_client._registrations import Registrations

if TYPE_CHECKING:
    from walnatsd_client._proto import events_pb2_grpc

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0

_BEGUN = "walnats-watching"  # among the initial metadata of a feed that the sidecar has begun

_logger = logging.getLogger("walnatsd_client")


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """A message on its way to its stream, which may yet turn out to be a duplicate."""

    event: Event[T]
    """What it was emitted as."""
    payload: bytes
    """Its payload; as it is stored where `codec_error` is not empty."""
    content_type: str
    """Media type of the payload."""
    uid: str
    """Its deduplication id. Empty where the emitter, not a sidecar, gave none."""
    trace_id: str
    """Empty where there is none."""
    headers: dict[str, str]
    """CloudEvents attributes, trace context and the emitter's own."""
    seen_at: datetime
    """When the sidecar saw it."""
    codec_error: str
    """Why the sidecar could not undo the event's codecs; empty where it could."""

    @property
    def message(self) -> T:
        """The message.

        Raises:
            ValueError: The payload is not of the event's schema, or could not be decoded.
        """
        if self.codec_error:
            raise ValueError(self.codec_error)
        return self.event.decode(self.payload)


class Feed(Generic[T]):
    """What a sidecar sees of some events, until it is left. Made by `Connection.monitor`."""

    def __init__(
        self, stub: "events_pb2_grpc.EventsAsyncStub", events: Sequence[Event[T]], registrations: Registrations
    ) -> None:
        self._stub = stub
        self._events = {event.name: event for event in events}
        self._registrations = registrations
        self._call: grpc.aio.UnaryStreamCall[events_pb2.MonitorRequest, message_pb2.Message] | None = None
        self._is_closed = False
        """The connection was, so that there is nothing to come again to."""

    async def begin(self) -> None:
        """Have the sidecar begin; returns when everything emitted from then on is seen.

        Raises:
            WalnatsdError: It does not.
        """
        try:
            call = self._call = self._stub.Monitor(events_pb2.MonitorRequest(events=self._events), wait_for_ready=True)
            metadata = await call.initial_metadata()
        except (grpc.aio.UsageError, asyncio.CancelledError) as closed:
            raise self._ending_of(closed) from None
        if not any(key == _BEGUN for key, _ in metadata):
            await self._read()
            raise WalnatsdError("the sidecar began to send before it said so", "INTERNAL")

    def end(self) -> None:
        """Tell the sidecar to end."""
        if self._call is not None:
            self._call.cancel()

    def __aiter__(self) -> "Feed[T]":
        """Iterate over what is seen."""
        return self

    async def __anext__(self) -> Seen[T]:
        """Wait for the next message, over lost connections and restarts of the sidecar.

        Raises:
            CapacityError: This end did not keep up, so the sidecar has ended it (`NOT_READING`).
            UnavailableError: The connection was closed here.
            WalnatsdError: The sidecar ended it for another reason.
        """
        while True:
            try:
                return _seen(await self._read(), self._events)
            except UnavailableError as error:
                if self._is_closed:
                    raise
                _logger.warning("the feed from the sidecar ended, coming again: %s", error)
                await self._begin_again()

    async def _read(self) -> message_pb2.Message:
        assert self._call is not None
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise ending_of(error) from None
        except asyncio.CancelledError as closed:
            raise self._ending_of(closed) from None
        if not isinstance(message, message_pb2.Message):
            raise UnavailableError("the sidecar closed the feed", "STOPPING")
        return message

    def _ending_of(self, closed: BaseException) -> BaseException:
        """Tell apart what gRPC raises alike: that the connection was closed here, and that this task is cancelled."""
        task = asyncio.current_task()
        if isinstance(closed, asyncio.CancelledError) and (task is None or task.cancelling()):
            return closed
        self._is_closed = True
        return UnavailableError("the connection was closed here", SIDECAR_UNAVAILABLE)

    async def _begin_again(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                if await self._has_begun():
                    return
            except UnavailableError:
                if self._is_closed:
                    raise

    async def _has_begun(self) -> bool:
        """Begin, or register again what a restarted sidecar has forgotten."""
        count = self._registrations.count
        try:
            await self.begin()
        except UnknownEventError:
            for event in self._events.values():
                if await self._registrations.again(event, seen=count):
                    return False
            raise
        return True


@asynccontextmanager
async def watching(
    stub: "events_pb2_grpc.EventsAsyncStub", events: Sequence[Event[T]], registrations: Registrations
) -> AsyncIterator[Feed[T]]:
    """Watch events while the body runs."""
    feed = Feed(stub, events, registrations)
    try:
        await feed.begin()
        yield feed
    finally:
        feed.end()


def _seen(message: message_pb2.Message, events: dict[str, Event[T]]) -> Seen[T]:
    return Seen(
        event=events[message.event],
        payload=message.payload,
        content_type=message.content_type,
        uid=message.uid,
        trace_id=message.trace_id,
        headers=dict(message.headers),
        seen_at=message.stored_at.ToDatetime(UTC),
        codec_error=message.codec_error,
    )
