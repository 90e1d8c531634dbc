"""Counting the messages that streams let go before an actor has settled them."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable

import structlog

from walnatsd.api.roster import Roster
from walnatsd.broker import drops
from walnatsd.broker.connection import Connection
from walnatsd.broker.drops import Standing
from walnatsd.broker.inspection import ConsumerState
from walnatsd.broker.wire import Frame
from walnatsd.model.event import Event
from walnatsd.observe.metrics import Metrics

WAITING, HANDED_OVER = "waiting", "handed-over"
OTHERS = "(others)"
"""The label of actors that are not declared here, so that others can't make up labels."""

_log = structlog.get_logger("walnatsd.drops")


class Drops:
    """Counts what the streams of the declared events dropped, for every consumer, whoever serves it.

    Each sidecar counts all of it, from when it first looks.
    """

    def __init__(self, connection: Connection, roster: Roster, metrics: Metrics) -> None:
        self._connection = connection
        self._roster = roster
        self._metrics = metrics
        self._standings: dict[str, dict[str, Standing]] = {}
        """By event and consumer, as of the last look."""
        self._told: dict[str, Counter[str]] = {}
        """By stream and consumer, what advisories told since the last look."""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear of messages that were handed over and dropped, while the body runs."""
        await self._connection.wait_connected()
        subscription = await self._connection.attach(drops.ADVISORIES, self._receive)
        # a server that was killed may have forgotten its last hand-overs, which would look like drops
        forget = self._connection.on_change(lambda _connected: self._standings.clear())
        try:
            yield
        finally:
            forget()
            await self._connection.detach(subscription)

    def _receive(self, frame: Frame) -> None:
        if advisory := drops.read_advisory(frame.payload):
            stream, consumer = advisory
            self._told.setdefault(stream, Counter())[consumer] += 1

    def look(self, event: Event, first_sequence: int, consumers: Iterable[ConsumerState]) -> None:
        """Count what was dropped since the last look.

        Args:
            event: A declared one.
            first_sequence: Of its stream, read before the consumers.
            consumers: All of the stream's.
        """
        before = self._standings.get(event.name, {})
        after = {consumer.name: drops.standing(consumer, first_sequence) for consumer in consumers}
        self._standings[event.name] = after
        told = self._told.pop(event.stream, Counter())
        for name, now in after.items():
            waiting = drops.dropped_between(before[name], now) if name in before else 0
            self._count(event.name, name, waiting, told[name])

    def _count(self, event: str, actor: str, waiting: int, handed_over: int) -> None:
        label = actor if (event, actor) in self._roster.actors else OTHERS
        self._metrics.dropped(event, label, WAITING).inc(waiting)
        self._metrics.dropped(event, label, HANDED_OVER).inc(handed_over)
        if not (waiting or handed_over):
            return  # counted as 0, so that the first one is seen as an increase
        _log.warning(
            "the stream dropped messages that the actor had not settled: it is full, they were too old, or somebody "
            "deleted them; see limits",
            event_name=event, actor=actor, never_handed_over=waiting, handed_over=handed_over,
        )  # fmt: skip

    def forget_others(self) -> None:
        """Forget events that are declared no more, and what advisories told of streams of others."""
        events = self._roster.events
        streams = {event.stream for event in events.values()}
        self._standings = {event: standings for event, standings in self._standings.items() if event in events}
        self._told = {stream: told for stream, told in self._told.items() if stream in streams}
