"""What callers can do with events."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from walnatsd.api.emit_streams import EmitStreams
from walnatsd.api.roster import Roster
from walnatsd.api.scheduled import ScheduledEmits
from walnatsd.broker.registration import Registered
from walnatsd.emit.calls import DEFAULT_TIMEOUT_S, Answer, Calls
from walnatsd.emit.emitter import Emitter
from walnatsd.emit.request import EmitRequest, Receipt
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.monitor.feeds import Feeds
from walnatsd.monitor.watcher import Watcher

MAX_BATCH_ITEMS = 1000
MAX_BATCH_BYTES = 16 << 20


class Events:
    """The use cases of the `Events` service and the HTTP address."""

    def __init__(self, emitter: Emitter, calls: Calls, feeds: Feeds, scheduled: ScheduledEmits, roster: Roster) -> None:
        self._emitter = emitter
        self._streams = EmitStreams(emitter)
        self._calls = calls
        self._feeds = feeds
        self.scheduled = scheduled
        self._roster = roster

    async def emit(self, request: EmitRequest, *, deadline_s: float | None = None) -> Receipt:
        """Store one message; raises as `Emitter.emit`."""
        return await self._emitter.emit(request, deadline_s=deadline_s)

    async def call(
        self, request: EmitRequest, *, timeout_s: float | None = None, deadline_s: float | None = None
    ) -> Answer:
        """Store one message and wait for the first answer, 4 s where no timeout is given; raises as `Calls.call`."""
        timeout_s = DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s
        return await self._calls.call(request, timeout_s=timeout_s, deadline_s=deadline_s)

    async def emit_batch(
        self, requests: Sequence[EmitRequest], *, deadline_s: float | None = None
    ) -> list[Receipt | Refusal]:
        """Store many messages, sent in order; one result per request, in order.

        Raises:
            Refusal: The batch as a whole is too large; nothing was stored.
        """
        size = sum(len(request.payload) for request in requests)
        if len(requests) > MAX_BATCH_ITEMS or size > MAX_BATCH_BYTES:
            raise Refusal(
                Reason.TOO_LARGE,
                f"a batch holds at most {MAX_BATCH_ITEMS} items and {MAX_BATCH_BYTES >> 20} MiB; this one has "
                f"{len(requests)} items and {size} bytes",
            )

        return await self._emitter.emit_all(requests, deadline_s=deadline_s)

    def emit_stream(
        self, requests: AsyncIterator[EmitRequest], *, deadline_s: float | None = None
    ) -> AsyncGenerator[Receipt | Refusal]:
        """Store messages as they arrive, one result per request, in order; as `EmitStreams.results`."""
        return self._streams.results(requests, deadline_s=deadline_s)

    def end_streams(self, why: Refusal) -> None:
        """End all streams of emits and all feeds, and let none begin any more."""
        self._streams.end(why)
        self._feeds.end(why)

    @contextlib.asynccontextmanager
    async def monitor(self, names: Sequence[str]) -> AsyncIterator[Watcher]:
        """Watch events while the body runs, all that are declared now where none is named; raises as `Feeds.watch`."""
        async with self._feeds.watch(names or list(self._roster.events)) as watcher:
            yield watcher

    async def register(self, events: Sequence[Event]) -> list[Registered]:
        """Declare events until the daemon stops; raises `Refusal`."""
        return [await self._roster.register_event(event) for event in events]
