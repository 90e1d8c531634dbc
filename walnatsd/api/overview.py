"""All events and actors at a glance, from what this sidecar knows already: looking costs NATS next to nothing."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from walnatsd.api.dead_letters import DeadLetterOffice
from walnatsd.api.roster import Key, Roster
from walnatsd.api.watch import Watch
from walnatsd.clocks.keeper import ClockStatus, Keeper
from walnatsd.dispatch.actor_loop import ActorState
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event
from walnatsd.model.names import stream_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.collectors import Fill, Lag
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.recent import NOTHING, Activity, Recent

COUNT_TIMEOUT_S = 2.0
NEARLY_FULL = 0.8
"""Above this the alert WalnatsdEventNearlyFull fires."""
STORED = frozenset({"stored", "scheduled", "duplicate", "spooled"})
"""Outcomes of emits that are successes."""


@dataclass(frozen=True, slots=True)
class EventGlance:
    """How an event fares."""

    event: Event
    emits: Activity
    """Of the last minute, in this sidecar."""
    fill: Fill | None
    """What its stream holds; None where nobody knows (yet)."""
    actors: tuple[str, ...]
    """Declared here."""
    elsewhere: tuple[str, ...]
    """Declared by other sidecars, orphans included."""
    orphans: tuple[str, ...]
    """Those of them that nobody serves."""
    clock: ClockStatus | None
    drift: tuple[str, ...]
    is_emitted_here: bool
    """It has a clock here, or was emitted through this sidecar since its start."""

    @property
    def state(self) -> str | None:
        """Its state in a word or two; None where nobody knows (yet)."""
        if self.fill is None:
            return None
        if self.drift:
            return "drift"
        if self.orphans:
            return "orphans"
        if self.fill.ratio > NEARLY_FULL:
            return "nearly full"
        return "well" if self.actors or self.elsewhere else "no actors"

    @property
    def refused(self) -> int:
        """Emits of the last minute that were refused."""
        return sum(count for outcome, count in self.emits.outcomes.items() if outcome not in STORED)


@dataclass(frozen=True, slots=True)
class ActorGlance:
    """How an actor fares."""

    actor: Actor
    here: ActorState
    attempts: Activity
    """Of the last minute, in this sidecar."""
    lag: Lag | None
    """Over all sidecars; None where nobody knows (yet)."""
    dead_letters: int | None
    """None where nobody knows."""
    drift: tuple[str, ...]

    @property
    def state(self) -> str:
        """Its state in one word: `paused` (for all sidecars), or that of its gate here."""
        return "paused" if self.lag is not None and self.lag.paused else str(self.here.gate)

    @property
    def failed(self) -> int:
        """Attempts of the last minute that were no success."""
        return sum(count for outcome, count in self.attempts.outcomes.items() if outcome != "acknowledged")


class Overview:
    """The use case behind the pages that show all of it."""

    def __init__(
        self,
        service: str,
        health: Health,
        roster: Roster,
        watch: Watch,
        clocks: Keeper,
        metrics: Metrics,
        recent: Recent,
        letters: DeadLetterOffice,
    ) -> None:
        self.service = service
        self._health = health
        self._roster = roster
        self._watch = watch
        self._clocks = clocks
        self._metrics = metrics
        self._recent = recent
        self._letters = letters

    @property
    def problems(self) -> Mapping[str, str]:
        """Why the daemon is not ready, by part."""
        return self._health.problems

    def events(self) -> list[EventGlance]:
        """Look at all events, by name."""
        emits, in_nats = self._recent.events(), self._metrics.in_nats
        actors: dict[str, list[str]] = {}
        for of, actor in sorted(self._roster.actors):
            actors.setdefault(of, []).append(actor)
        emitted = {
            event
            for event, outcome in self._metrics.emit_histograms.counts()
            if outcome in STORED
        }  # fmt: skip
        return [
            EventGlance(
                event=event,
                emits=emits.get((name,), NOTHING),
                fill=in_nats.fills.get(name),
                actors=tuple(actors.get(name, ())),
                elsewhere=self._watch.elsewhere(name),
                orphans=self._watch.orphans(name),
                clock=(clock := self._clocks.status(name)),
                drift=self._watch.drift_of(name),
                is_emitted_here=clock is not None or name in emitted,
            )
            for name, event in sorted(self._roster.events.items())
        ]

    async def actors(self) -> list[ActorGlance]:
        """Look at all actors, by event and name."""
        dead = await self.dead_letters()
        attempts = self._recent.actors()
        return [self._actor(key, attempts, dead) for key in sorted(self._roster.actors)]

    async def actor(self, event: str, name: str) -> ActorGlance:
        """Look at one.

        Raises:
            Refusal: UNKNOWN_ACTOR: it is not declared here.
        """
        dead = await self.dead_letters()
        if (event, name) not in self._roster.actors:
            raise Refusal(Reason.UNKNOWN_ACTOR, f"this sidecar has no actor {name!r} of {event!r}")
        return self._actor((event, name), self._recent.actors(), dead)

    def _actor(
        self, key: Key, attempts: Mapping[tuple[str, ...], Activity], dead: Mapping[Key, int] | None
    ) -> ActorGlance:
        loop, (event, name) = self._roster.actors[key], key
        return ActorGlance(
            actor=loop.actor,
            here=loop.state,
            attempts=attempts.get(key, NOTHING),
            lag=self._metrics.in_nats.lags.get(key),
            dead_letters=dead.get((stream_name(event), name), 0) if dead is not None else None,
            drift=self._watch.drift_of(key),
        )

    async def dead_letters(self) -> dict[Key, int] | None:
        """Count dead letters by stream and actor; None where NATS does not say it soon."""
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_S):
                return await self._letters.counts()
        except (Refusal, TimeoutError):
            return None
