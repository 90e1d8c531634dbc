"""Watching over what others do to streams and consumers while the daemon runs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

import structlog

from walnatsd.api.drops import Drops
from walnatsd.api.roster import Key, Roster
from walnatsd.broker import dead_letters, inspection
from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.inspection import ConsumerState, StreamState, stream_state
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.registration import consumer_change, stream_change
from walnatsd.model.event import Event
from walnatsd.model.refusal import Refusal
from walnatsd.observe.collectors import Fill, Lag
from walnatsd.observe.metrics import Metrics

PERIOD_S = 5.0
LEAST_PAUSE_S = 0.25
EVENTS_AT_ONCE = 20
"""Their requests leave together, and an answer that does not come holds up no more than these."""

_log = structlog.get_logger("walnatsd.watch")


class Watch:
    """Looks at every declared event once per period: one request for its stream, one for all of its consumers.

    It looks at once after a reconnect, for a server that stores in memory has forgotten everything, and when somebody
    misses a stream.

    What is missing is registered again. What differs from its declaration is said aloud and kept as drift; it is not
    written, for two sidecars with different declarations would write over each other for ever.

    The same answers tell how far actors are behind and how full events are. Only for an actor that lags behind others
    of its event, the time of its oldest message is asked for besides, when that message is another one than before.
    """

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        roster: Roster,
        metrics: Metrics,
        own: Mapping[str, Callable[[], Awaitable[None]]],
        missed: asyncio.Event,
    ) -> None:
        """Prepare to watch.

        Args:
            connection: To wait for, and to hear of reconnects.
            jetstream: The API.
            roster: What is declared; it registers again what is missing.
            metrics: Where drift and orphans are counted.
            own: walnatsd's own streams, each with what registers it again.
            missed: Set when somebody misses a stream.
        """
        self._drops = Drops(connection, roster, metrics)
        self._own = own
        self._look = missed
        self._connection = connection
        self._jetstream = jetstream
        self._roster = roster
        self._metrics = metrics
        self._drift: dict[str | Key, tuple[str, ...]] = {}
        self._orphans: dict[str, tuple[str, ...]] = {}
        self._elsewhere: dict[str, tuple[str, ...]] = {}
        self._oldest: dict[Key, tuple[int, float]] = {}
        """The floor of a consumer, and when the first message behind it was stored."""

    def drift_of(self, name: str | Key) -> tuple[str, ...]:
        """How an event, or an actor, differs in NATS from its declaration."""
        return self._drift.get(name, ())

    def elsewhere(self, event: str) -> tuple[str, ...]:
        """Name the consumers of an event that are not declared here, as they were last seen."""
        return self._elsewhere.get(event, ())

    def orphans(self, event: str) -> tuple[str, ...]:
        """Name those of them that nobody serves."""
        return self._orphans.get(event, ())

    async def run(self) -> None:
        """Watch for ever."""
        forget = self._connection.on_change(lambda connected: self._look.set() if connected else None)
        try:
            async with self._drops.listening():
                await self._look_for_ever()
        finally:
            forget()

    async def _look_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await self._look.wait()
            self._look.clear()
            await self._look_at_all()
            await asyncio.sleep(min(LEAST_PAUSE_S, PERIOD_S))

    async def _look_at_all(self) -> None:
        for stream, register in self._own.items():
            await self._connection.wait_connected()
            try:
                await self._look_at_own(stream, register)
            except BrokerError as error:
                _log.debug("can't look at a stream now", stream=stream, why=str(error))
        events = list(self._roster.events.values())
        for first in range(0, len(events), EVENTS_AT_ONCE):
            await self._connection.wait_connected()
            async with asyncio.TaskGroup() as tasks:
                for event in events[first : first + EVENTS_AT_ONCE]:
                    tasks.create_task(self._try_to_look_at(event), name=f"watch/{event.name}")
        self._forget_what_is_gone()

    async def _try_to_look_at(self, event: Event) -> None:
        try:
            await self._look_at(event)
        except BrokerError as error:
            _log.debug("can't look at an event now", event_name=event.name, why=str(error))

    def _forget_what_is_gone(self) -> None:
        self._drops.forget_others()
        known: set[str | Key] = {*self._roster.events, *self._roster.actors}
        for name in self._drift.keys() - known:
            del self._drift[name]
            kind, event, actor = ("event", name, "") if isinstance(name, str) else ("actor", *name)
            self._metrics.drift(kind, event, actor).set(0)
        for event in [event for event in self._orphans if event not in self._roster.events]:
            del self._orphans[event]
            self._metrics.orphans(event).set(0)
        for event in self._elsewhere.keys() - known:
            del self._elsewhere[event]
        for event in self._metrics.in_nats.fills.keys() - known:
            del self._metrics.in_nats.fills[event]
        self._forget_lags(self._metrics.in_nats.lags.keys() - known)

    def _forget_lags(self, actors: Iterable[Key]) -> None:
        for actor in list(actors):
            self._metrics.in_nats.lags.pop(actor, None)
            self._oldest.pop(actor, None)

    async def _look_at_own(self, stream: str, register: Callable[[], Awaitable[None]]) -> None:
        info = await self._jetstream.stream(stream)
        if info is None:
            _log.error("somebody deleted walnatsd's own stream; registering it again", stream=stream)
            await register()
        elif stream == dead_letters.STREAM:
            self._metrics.in_nats.dead_letters = _fill(stream_state(info))

    async def _look_at(self, event: Event) -> None:
        info = await self._jetstream.stream(event.stream)
        if info is None:
            self._metrics.in_nats.fills.pop(event.name, None)
            self._forget_lags(actor for actor in self._metrics.in_nats.lags if actor[0] == event.name)
            self._roster.restore_event(event, f"the stream {event.stream!r} does not exist")
            return
        try:
            change = stream_change(event, info["config"], info["state"], force=False)
            differs = list(dict.fromkeys([*change.updated, *change.drift]))
        except Refusal as refusal:
            differs = [refusal.message]
        self._note(event.name, ("event", event.name, ""), tuple(differs))
        state = stream_state(info)
        self._metrics.in_nats.fills[event.name] = _fill(state)
        consumers = await inspection.consumers(self._jetstream, event.stream)
        if consumers is not None:
            self._drops.look(event, state.first, consumers)
            await self._look_at_consumers(event, state, {consumer.name: consumer for consumer in consumers})

    async def _look_at_consumers(
        self, event: Event, stream: StreamState, consumers: Mapping[str, ConsumerState]
    ) -> None:
        declared = self._roster.actors_of(event.name)
        for name, loop in declared.items():
            if name not in consumers:
                self._forget_lags([(event.name, name)])
                self._roster.restore_later(loop.actor, f"the consumer {name!r} does not exist")
                continue
            try:
                change = consumer_change(loop.actor, consumers[name].config)
                differs = list(dict.fromkeys([*change.updated, *change.drift]))
            except Refusal as refusal:
                differs = [refusal.message]
            if consumers[name].paused_for_s:
                loop.obey_pause()
            self._note((event.name, name), ("actor", event.name, name), tuple(differs))
            await self._measure((event.name, name), event, stream, consumers[name])
        self._elsewhere[event.name] = tuple(sorted(consumers.keys() - declared.keys()))
        orphans = tuple(orphans_of(consumers.values(), declared))
        self._metrics.orphans(event.name).set(len(orphans))
        if new := set(orphans) - set(self._orphans.get(event.name, ())):
            _log.warning(
                "consumers that nobody serves hold messages of the event back; walnatsd actors delete removes them",
                event_name=event.name, consumers=sorted(new),
            )  # fmt: skip
        self._orphans[event.name] = orphans

    async def _measure(self, actor: Key, event: Event, stream: StreamState, consumer: ConsumerState) -> None:
        """Take down how far an actor is behind."""
        self._metrics.in_nats.lags[actor] = Lag(
            pending=consumer.pending,
            ack_pending=consumer.ack_pending,
            redelivered=consumer.redelivered,
            waiting_pulls=consumer.waiting_pulls,
            paused=bool(consumer.paused_for_s),
            oldest_at=await self._oldest_at(actor, event, stream, consumer) if consumer.unsettled else None,
        )

    async def _oldest_at(self, actor: Key, event: Event, stream: StreamState, consumer: ConsumerState) -> float | None:
        if stream.first_at is not None and consumer.floor < stream.first:
            return stream.first_at
        floor, oldest_at = self._oldest.get(actor, (-1, None))
        if floor == consumer.floor:
            return oldest_at
        oldest_at = await inspection.stored_at(self._jetstream, event.stream, event.name, consumer.floor)
        if oldest_at is not None:
            self._oldest[actor] = consumer.floor, oldest_at
        return oldest_at

    def _note(self, name: str | Key, labels: tuple[str, str, str], differs: tuple[str, ...]) -> None:
        self._metrics.drift(*labels).set(len(differs))
        if differs and _places(differs) != _places(self._drift.get(name, ())):
            kind, event, actor = labels
            _log.warning(
                f"the {kind} in NATS is not as it is declared; walnatsd apply writes it, where nothing else is said",
                event_name=event, actor=actor or None, differs=list(differs),
            )  # fmt: skip
        self._drift[name] = differs


def _fill(state: StreamState) -> Fill:
    return Fill(state.messages, state.bytes, state.ratio)


def _places(differs: Iterable[str]) -> list[str]:
    """Give what differs without the reasons: they count messages, and change while nothing else does."""
    return [each.partition(":")[0] for each in differs]


def orphans_of(consumers: Iterable[ConsumerState], declared: Collection[str]) -> list[str]:
    """Name the consumers that are not declared here and that nobody pulls from."""
    return sorted(
        consumer.name for consumer in consumers if consumer.name not in declared and not consumer.waiting_pulls
    )
