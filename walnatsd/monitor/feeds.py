"""The live feeds of events, shared by all who watch them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.wire import Frame
from walnatsd.model.event import Codec, Event
from walnatsd.model.refusal import Reason, Refusal, unknown_event
from walnatsd.monitor.watcher import Gap, Seen, Watcher
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.codecs import Codecs

MAX_WATCHERS = 100
START_TIMEOUT_S = 5.0
BUSY_RETRY_AFTER_S = 1.0


class Feeds:
    """One core NATS subscription for each event that somebody watches.

    It sees what is published, before the stream has judged it: also what becomes a duplicate, is refused, or is not kept
    because the event has no actor. A consumer would see what is stored, but the stream would keep messages for it.
    """

    def __init__(
        self,
        connection: Connection,
        find_event: Callable[[str], Event | None],
        codecs_for: Callable[[tuple[Codec, ...]], Codecs],
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to be watched.

        Args:
            connection: Where the messages are seen.
            find_event: Finds a declared event.
            codecs_for: Gives the codecs of an event.
            metrics: Where watchers are counted.
            now: Seconds since the epoch.
        """
        self._connection = connection
        self._find_event = find_event
        self._codecs_for = codecs_for
        self._metrics = metrics
        self._now = now
        self._feeds: dict[str, _Feed] = {}
        self._watchers: set[Watcher] = set()
        self._why_over: Refusal | None = None
        self._was_away = False
        connection.on_change(self._on_change)

    @contextlib.asynccontextmanager
    async def watch(self, names: Sequence[str]) -> AsyncIterator[Watcher]:
        """Watch events while the body runs, which begins when everything published from then on is seen.

        Raises:
            Refusal: An event is not declared, too many watch, NATS is away, or the daemon stops.
        """
        for name in (name for name in names if self._find_event(name) is None):
            raise unknown_event(name)
        if self._why_over is not None:
            raise self._why_over
        if len(self._watchers) >= MAX_WATCHERS:
            what = f"{MAX_WATCHERS} watchers are here already"
            raise Refusal(Reason.BUSY, what, retry_after_s=BUSY_RETRY_AFTER_S)
        watcher = Watcher()
        self._watchers.add(watcher)
        self._metrics.watchers.set(len(self._watchers))
        joined: list[_Feed] = []
        try:
            await self._join(watcher, dict.fromkeys(names), joined)
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._metrics.watchers.set(len(self._watchers))
            if watcher.is_slow:
                self._metrics.watchers_dropped.inc()
            for feed in joined:
                await feed.leave(watcher)

    async def _join(self, watcher: Watcher, names: Iterable[str], joined: "list[_Feed]") -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._connection.wait_connected()
                for name in names:
                    feed = self._feeds.setdefault(name, _Feed(self._connection, name, self._see))
                    joined.append(feed)
                    await feed.join(watcher)
                await self._connection.confirm()
        except (TimeoutError, BrokerError) as error:
            what = f"NATS does not answer, so there is nothing to see: {str(error) or 'no connection'}"
            raise Refusal(Reason.NATS_UNAVAILABLE, what, retry_after_s=1.0) from None

    def end(self, why: Refusal) -> None:
        """End all watchers, and let nobody in any more."""
        self._why_over = why
        for watcher in self._watchers:
            watcher.end(why)

    def _on_change(self, connected: bool) -> None:
        if not connected:
            self._was_away = True
        elif self._was_away:
            self._was_away = False
            for watcher in self._watchers:
                watcher.offer(Gap())

    def _see(self, frame: Frame, name: str, watchers: set[Watcher]) -> None:
        """Show a message to those who watch its event."""
        event = self._find_event(name)
        if event is None:
            for watcher in watchers:
                watcher.end(Refusal(Reason.UNKNOWN_EVENT, f"the event {name!r} is not declared here any more"))
            return
        seen = Seen(frame, event=name, stream=event.stream, codecs=self._codecs_for(event.codecs), at=self._now())
        for watcher in watchers:
            watcher.offer(seen)


class _Feed:
    """The subscription of one event: there while somebody watches."""

    def __init__(self, connection: Connection, event: str, see: Callable[[Frame, str, set[Watcher]], None]) -> None:
        self._connection = connection
        self._event = event
        self._see = see
        self._watchers: set[Watcher] = set()
        self._sid: int | None = None
        self._changing = asyncio.Lock()

    def receive(self, frame: Frame) -> None:
        self._see(frame, self._event, self._watchers)

    async def join(self, watcher: Watcher) -> None:
        self._watchers.add(watcher)
        async with self._changing:
            if self._sid is None:
                self._sid = await self._connection.attach(self._event, self.receive)

    async def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        async with self._changing:
            if not self._watchers and self._sid is not None:
                sid, self._sid = self._sid, None
                await self._connection.detach(sid, flush=False)
