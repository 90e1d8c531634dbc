"""Keeping the schedules of clocks as they are declared.

Several sidecars keep the same clocks, and several services may share a NATS system. So that they never write over each
other for ever:

- What is missing is registered again, always.
- What differs is written once, when its declaration is new: at the start and at a reload. Later it is drift, and said.
- What another service declared is never changed or removed. A clock of that event that is declared here is drift then.
- What nobody declares any more is removed by its own service, which must have a name in its config for that: sidecars
  without one can't tell a clock that was theirs from one of their neighbours.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog

from walnatsd.broker.clock_schedules import ClockSchedules, Schedule, owner_of, too_old
from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import ApiError, BrokerError
from walnatsd.broker.inspection import Stored
from walnatsd.broker.registration import Registered
from walnatsd.broker.route import Route
from walnatsd.clocks.registration import part_of, register_clock, schedules_by_stream
from walnatsd.config.settings import Manage
from walnatsd.model.clock import Clock
from walnatsd.model.event import Event
from walnatsd.model.refusal import Refusal
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics

PERIOD_S = 5.0
LEAVE_ALONE_S = 60.0
"""How long after it was written a clock that is not declared here stays: a sidecar with an older file may still run, and
declares it again each time that it is removed."""

_log = structlog.get_logger("walnatsd.clocks")


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """A clock that is declared here."""

    clock: Clock
    next_tick_at: int | None
    """Seconds since the epoch; None where it does not tick as it is declared."""
    problem: str | None
    """Why it does not tick."""
    drift: tuple[str, ...]
    """How it differs in NATS from its declaration."""


@dataclass(slots=True)
class _Kept:
    """What is known of a clock that is declared here."""

    clock: Clock
    wanted: Mapping[str, Schedule]
    """Its schedules by subject."""
    is_new: bool = True
    """The declaration may be written over what differs."""
    problem: str | None = "not registered in NATS yet"
    drift: tuple[str, ...] = ()


class Keeper:
    """Keeps the clocks of this sidecar's config file."""

    def __init__(
        self,
        connection: Connection,
        route: Route,
        schedules: ClockSchedules,
        manage: Manage,
        *,
        owner: str,
        health: Health,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to keep clocks.

        Args:
            connection: To wait for.
            route: Knows when walnatsd's own stream is registered, and what the server can do.
            schedules: The clocks in NATS.
            manage: What may be done to them.
            owner: The name that the config gives the service; empty where it gives none.
            health: Where clocks that can't tick are problems.
            metrics: Where drift is counted.
            clock: Gives the time, in seconds since the epoch.
        """
        self._connection = connection
        self._route = route
        self._schedules = schedules
        self._manage = manage
        self._owner = owner
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        """By the name of the event's stream."""
        self._gone: set[str] = set()
        """Streams of the clocks that a reload took out of the file."""
        self._is_first_look = True
        self._look = asyncio.Event()

    # ---- what is declared

    def declare(self, clocks: Iterable[Clock], events: Iterable[Event]) -> None:
        """Make these the clocks of the config file; `run` brings NATS to it.

        Args:
            clocks: The file's.
            events: The file's, which the clocks emit.
        """
        clocks = list(clocks)
        wanted = schedules_by_stream(clocks, events, self._owner)
        before, self._kept = self._kept, {}
        for clock in clocks:
            kept = before.pop(clock.stream, None)
            if kept is None or kept.wanted != wanted[clock.stream]:
                kept = _Kept(clock, wanted[clock.stream])
                self._health.set_problem(part_of(clock), str(kept.problem))
            kept.clock = clock  # it may say the same otherwise
            self._kept[clock.stream] = kept
        for kept in before.values():
            self._note_drift(kept, ())
            self._health.clear(part_of(kept.clock))
        self._gone = (self._gone | before.keys()) - self._kept.keys()
        self._look.set()

    async def check(self, clocks: Iterable[Clock], events: Iterable[Event]) -> list[str]:
        """See what NATS would not accept of these declarations; nothing is written. Raises BrokerError."""
        clocks = list(clocks)
        wanted = schedules_by_stream(clocks, events, self._owner)
        problems = []
        for clock in clocks:
            try:
                await self._see_that_it_can_tick(wanted[clock.stream])
            except Refusal as refusal:
                problems.append(f"{part_of(clock)}: {refusal.message}")
        return problems

    async def _see_that_it_can_tick(self, wanted: Mapping[str, Schedule]) -> None:
        if not self._route.has_schedules:
            raise too_old(self._connection.server_version)
        await self._schedules.try_out(wanted)

    def status(self, event: str) -> ClockStatus | None:
        """Say how the clock of an event fares; None where none is declared."""
        for kept in self._kept.values():
            if kept.clock.event == event:
                ticks = kept.problem is None and not kept.drift
                next_tick_at = kept.clock.rhythm.after(int(self._clock())) if ticks else None
                return ClockStatus(kept.clock, next_tick_at, kept.problem, kept.drift)
        return None

    # ---- what is in NATS

    async def remove(self, stream: str) -> None:
        """Remove the clock of an event that is deleted, whoever declared it. Raises BrokerError."""
        await self._schedules.remove(stream)

    async def run(self) -> None:
        """Keep the clocks for ever, once walnatsd's own stream is registered."""
        await self._route.wait_registered()
        while True:
            self._look.clear()
            await self._connection.wait_connected()
            try:
                await self._keep_all()
            except BrokerError as error:
                _log.debug("can't look at the clocks now", why=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await self._look.wait()

    async def _keep_all(self) -> None:
        if not self._route.has_schedules:
            for kept in self._kept.values():
                self._set_problem(kept, too_old(self._connection.server_version).message)
            return
        if not (self._kept or self._gone or self._owner):
            return
        gone = set(self._gone)
        found = await self._schedules.all()
        for stream, kept in list(self._kept.items()):
            if self._kept.get(stream) is kept:  # a reload may come in between
                try:
                    await self._keep(kept, found.get(stream, {}))
                except (Refusal, ApiError) as error:
                    self._set_problem(kept, str(error))
        for stream, present in found.items():
            if stream not in self._kept and self._may_remove(stream, list(present.values())):
                await self._schedules.remove(stream)
                _log.info("removed a clock that is not declared any more", stream=stream)
        self._gone -= gone
        self._is_first_look = False

    async def _keep(self, kept: _Kept, present: Mapping[str, Stored]) -> None:
        """Bring the schedules of one clock to its declaration."""
        clock, is_new = kept.clock, kept.is_new
        registered = await register_clock(
            self._schedules, clock, kept.wanted, present, self._manage, owner=self._owner, may_change=is_new
        )
        if registered is None:
            self._look.set()
            return
        if registered.created or registered.updated:
            self._say_written(clock, registered, is_new=is_new)
        if self._kept.get(clock.stream) is not kept:
            return  # declared anew, or no more, while it was written; the next look sees to that
        if not registered.drift:
            kept.is_new = False
        self._note_drift(kept, registered.drift)
        kept.problem = None
        self._health.clear(part_of(clock))

    def _may_remove(self, stream: str, present: list[Stored]) -> bool:
        owners = {owner_of(each.headers) for each in present}
        if not self._manage.update:
            return False
        if stream in self._gone and owners <= {"", self._owner}:
            return True
        newest = max(each.stored_at for each in present)
        return (
            self._owner != ""
            and owners == {self._owner}
            and (self._is_first_look or self._clock() - newest > LEAVE_ALONE_S)
        )

    # ---- telling

    def _say_written(self, clock: Clock, registered: Registered, *, is_new: bool) -> None:
        if not is_new:
            _log.error("somebody deleted the clock; registered it again", event_name=clock.event)
        elif registered.created:
            _log.info("created the clock in NATS", event_name=clock.event, ticks=str(clock))
        else:
            _log.info("updated the clock in NATS", event_name=clock.event, ticks=str(clock))

    def _set_problem(self, kept: _Kept, problem: str) -> None:
        if kept.problem != problem and self._kept.get(kept.clock.stream) is kept:
            kept.problem = problem
            self._health.set_problem(part_of(kept.clock), problem)
            _log.error("the clock does not tick", event_name=kept.clock.event, why=problem)

    def _note_drift(self, kept: _Kept, drift: tuple[str, ...]) -> None:
        self._metrics.drift("clock", kept.clock.event, "").set(len(drift))
        if drift and drift != kept.drift:
            _log.warning("the clock in NATS is not as it is declared", event_name=kept.clock.event, differs=list(drift))
        kept.drift = drift
