"""The life of one actor in this sidecar: pull, hand over, stop without loss."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, cast

import structlog

from walnatsd.broker.delivery import Delivery
from walnatsd.broker.pin import Pin
from walnatsd.broker.pull import ConsumerGoneError, Pull
from walnatsd.broker.wire import Frame
from walnatsd.dispatch.batch import BatchIntake
from walnatsd.dispatch.drained import has_nothing_left
from walnatsd.dispatch.gate import Gate
from walnatsd.dispatch.hand import Hand
from walnatsd.dispatch.handling import Handling
from walnatsd.dispatch.intake import Intake, SingleIntake
from walnatsd.dispatch.order import OrderedIntake
from walnatsd.dispatch.order_wiring import counting, pinned_to
from walnatsd.dispatch.route_pull import RoutePull
from walnatsd.dispatch.screen import Screen
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.dispatch.target import BatchTarget, HandoverTarget, Target
from walnatsd.model.actor import Actor
from walnatsd.model.attempt import Attempt
from walnatsd.model.gate_state import GateState
from walnatsd.model.retry import Ack

PROBE_INTERVAL_S = 1.0
LONGEST_TIMER_S = 30 * 86400.0
"""Loops take no longer ones; a pause that long was meant for ever."""
DRAINED_INTERVAL_S = 0.25
ROUTE_SHARE = 4
"""One in so many free places is kept for what is for this actor only."""

_log = structlog.get_logger("walnatsd.dispatch")

Probe = Callable[[], Awaitable[str | None]]
"""Asks an actor whether it is there; gives why it is not, in words."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What an actor's loop is given to work with."""

    target: Target
    """Who is called."""
    screen: Screen
    """Looks at messages before."""
    probe: Probe | None = None
    """Asks `wait_for`; None where it is not declared."""


@dataclass(frozen=True, slots=True)
class ActorState:
    """How an actor fares in this sidecar."""

    gate: GateState
    """`open`, or why nothing starts."""
    in_flight: int
    """Deliveries that are held."""
    window: int
    """Attempts that may be in flight, as learned."""
    breaker: str
    """`closed`, `open` or `half-open`."""
    held_s: float
    """Seconds for which the actor still wants a rest, as it said with `Retry-After`."""
    pause_reason: str | None = None
    """Why it is paused in this sidecar only; None where it is not."""
    trouble: Attempt | None = None
    """The last attempt in this sidecar that was no success; None where all were."""


class ActorLoop:
    """Dispatch for one actor in this sidecar."""

    def __init__(
        self,
        actor: Actor,
        equipment: Equipment,
        sidecar: Sidecar,
        *,
        pause: Callable[[str], Awaitable[bool]],
        restore: Callable[[str], Awaitable[None]],
        pinned: bool = False,
    ) -> None:
        """Prepare the loop.

        Args:
            actor: The declaration.
            equipment: What it works with.
            sidecar: What is shared.
            pause: Pauses the actor for all sidecars, with the reason; False where the server can't.
            restore: Registers the actor again after its consumer has gone, with the reason; returns when it is there.
            pinned: Of an ordered actor: whether its consumer serves one client at a time. Otherwise NATS hands over one
                message at a time, which keeps the order of all keys without our help.
        """
        self.actor = actor
        self._sidecar = sidecar
        self._equipment = equipment
        self._restore = restore
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(actor, equipment.target.credit, self._loop.time)
        self._pause = pause
        self._jobs: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._opening: asyncio.TimerHandle | None = None
        self._resuming: asyncio.TimerHandle | None = None
        self._pause_reason: str | None = None
        self._background: list[asyncio.Task[None]] = []
        self._path = f"actors/{actor.event}/{actor.name}"
        self._handling = Handling(
            actor,
            equipment.target,
            sidecar,
            self._gate,
            pause=self._pause_and_begin_anew if pinned else pause,
            gate_changed=self._follow_gate,
            hold_retries=pinned,
        )
        self._hand = Hand(
            actor,
            sidecar.pulse,
            sidecar.slots,
            sidecar.metrics,
            self._handling.attempts,
            receive=self._receive,
            always_pulsed=pinned,
        )
        self._pin: Pin | None = None
        self._ordered: OrderedIntake | None = None
        self._intake = self._order() if pinned else self._choose_intake(self._handling)
        self._pull = Pull(
            sidecar.connection,
            sidecar.jetstream,
            stream=actor.stream,
            consumer=actor.name,
            capacity=self._capacity,
            receive=self._read,
            pin=self._pin,
        )
        self._route = RoutePull(actor, sidecar, capacity=self._route_capacity, receive=self._receive, start=self._start)

    def _choose_intake(self, handling: Handling) -> Intake:
        actor, parts = self.actor, (self._hand, self._gate, self._equipment.screen, handling, self._sidecar.slots)
        if actor.batch is not None:
            return BatchIntake(
                actor,
                actor.batch,
                cast("BatchTarget", self._equipment.target),
                *parts,
                tracing=self._sidecar.tracing,
                reports=self._sidecar.reports,
                start=self._start,
                wake=self.wake,
            )
        target = cast("HandoverTarget", self._equipment.target) if actor.url is None else None
        return SingleIntake(actor, *parts, target=target, start=self._start, wake=self.wake)

    def _order(self) -> Intake:
        """Dispatch in order while this sidecar is pinned."""
        pin = self._pin = pinned_to(
            self.actor, self._sidecar, gained=self._begin_reign, lost=self._end_reign, proven=self.wake
        )
        intake = self._ordered = OrderedIntake(
            self.actor, self._hand, self._gate, self._equipment.screen, self._handling, self._sidecar.slots,
            self._sidecar.metrics, pin=pin, count_unsettled=counting(self.actor, self._sidecar),
            start=self._start, wake=self.wake,
        )  # fmt: skip
        return intake

    def _begin_reign(self) -> None:
        assert self._ordered is not None
        self._ordered.begin_reign()

    def _end_reign(self) -> None:
        assert self._ordered is not None
        self._ordered.end_reign()
        self._pull.withdraw()

    async def _pause_and_begin_anew(self, reason: str) -> bool:
        paused = await self._pause(reason)
        self._begin_reign()  # what waits is handed back, and waits in NATS
        if not paused and self._pin is not None:
            await self._pin.give_up()
        return paused

    @property
    def state(self) -> ActorState:
        """How the actor fares."""
        gate = self._gate
        return ActorState(
            gate.state,
            len(self._hand),
            gate.window,
            gate.breaker,
            gate.held_s,
            self._pause_reason,
            self._handling.trouble,
        )

    @property
    def target(self) -> Target:
        """Who is called."""
        return self._equipment.target

    # ---- life

    async def run(self) -> None:
        """Pull and dispatch until `stop`."""
        if self._stopping:
            return
        with self._sidecar.metrics.watch(self.actor.event, self.actor.name, lambda: self.state):
            async with asyncio.TaskGroup() as self._tasks:
                self._run_beside(self._pull_for_ever(), "pull")
                self._run_beside(self._route.run(), "route")
                if self._pin is not None:
                    self._run_beside(self._pin.keep(), "pin")
                if self._equipment.probe is not None:
                    self._run_beside(self._probe_for_ever(self._equipment.probe), "probe")

    def _run_beside(self, task: Coroutine[Any, Any, None], name: str) -> None:
        self._background.append(self._tasks.create_task(task, name=f"{self._path}/{name}"))

    async def stop(self, timeout_s: float, *, hand_back_s: float) -> None:
        """Stop pulling, let jobs finish for `timeout_s` seconds, hand the rest back. `run` returns then.

        Handing back takes `hand_back_s` seconds at most: where NATS is away, the server does it after `ack_wait`.
        """
        deadline = self._loop.time() + timeout_s
        self._stopping = True
        if self._resuming is not None:
            self._resuming.cancel()
        if self._opening is not None:
            self._opening.cancel()
        await _end(self._background, timeout_s)
        handing_back = asyncio.create_task(self._intake.hand_back(), name=f"{self._path}/hand-back")
        late, left_s = [handing_back, *self._jobs], math.inf
        while late and left_s:  # jobs may start others as they end
            left_s = max(0.0, deadline - self._loop.time())
            await asyncio.wait(late, timeout=left_s)
            late = [task for task in (handing_back, *self._jobs) if not task.done()]
        self._handling.last_word_by = self._loop.time() + hand_back_s
        # A job that is cancelled before its first step never runs: it would settle nothing and let go of nothing, and what
        # is held is pulsed on, so that NATS would not hand it over again while this process lives.
        await asyncio.sleep(0)
        await _end(late, hand_back_s)
        if not handing_back.cancelled():
            handing_back.result()

    def obey_pause(self) -> None:
        """Hand back what an ordered actor holds, because its consumer is paused; others hold nothing that waits."""
        if self._ordered is not None and self._ordered.waiting:
            self._begin_reign()

    def pause_here(self, reason: str, for_s: float) -> None:
        """Start nothing more in this sidecar for a time, or until `resume_here`: for servers that can't pause a consumer."""
        self._pause_reason = reason
        self._gate.pause()
        self._follow_gate()
        if self._resuming is not None:
            self._resuming.cancel()
        self._resuming = self._loop.call_later(min(for_s, LONGEST_TIMER_S), self.resume_here)

    def resume_here(self) -> None:
        """Go on after `pause_here`, or at once after the pause of the consumer.

        A server whose consumer is resumed looks for messages only when something happens (nats-server 2.11 to 2.15, tried): the
        next heartbeat, or that it is asked again.
        """
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        self._pause_reason = None
        self._gate.resume()
        self._follow_gate()
        self._withdraw()
        self.wake()

    async def drained(self) -> bool:
        """Wait until the server has nothing more for the actor, and nothing is in our hands; False if it had."""
        at_once = True
        while True:
            if not len(self._hand) and await has_nothing_left(self.actor, self._sidecar):
                return at_once
            at_once = False
            await asyncio.sleep(DRAINED_INTERVAL_S)

    def wake(self) -> None:
        """Look again whether something can start, and whether there is room for more messages."""
        self._intake.look()
        self._pull.wake()
        self._route.wake()

    def credit_changed(self) -> None:
        """Ask for as much as the target takes now, and no more."""
        self._withdraw()
        self.wake()

    def _withdraw(self) -> None:
        self._pull.withdraw()
        self._route.withdraw()

    async def _pull_for_ever(self) -> None:
        while True:
            try:
                await self._pull.run()
            except ConsumerGoneError as error:
                await self._restore(str(error))

    def _read(self, frame: Frame) -> None:
        sidecar = self._sidecar
        self._receive(Delivery.of_event(sidecar.connection, sidecar.jetstream, self.actor.event, frame))

    def _receive(self, delivery: Delivery) -> None:
        if self._handling.attempts.is_done(delivery):
            self._start(self._settle_again(delivery), f"{delivery.message.sequence}/again")
        else:
            self._intake.receive(delivery)

    async def _settle_again(self, delivery: Delivery) -> None:
        """Settle what was settled before and the server did not know of. It takes no slot, for nobody is called."""
        await self._handling.settle(delivery, Ack())

    def _capacity(self) -> int:
        """What the route asks for is not asked for here too, but for one message, so that neither ever starves."""
        free, asked = self._intake.capacity(), self._route.asked
        return max(1, free - asked) if free > 0 and asked is not None else free

    def _route_capacity(self) -> int:
        if self._ordered is not None and not self._ordered.has_all:
            return 0  # what is for this actor only is for who is pinned, too
        free = self._intake.capacity()
        return max(1, free // ROUTE_SHARE) if free > 0 else free

    def _start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        task = self._tasks.create_task(job, name=f"{self._path}/{name}")
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    # ---- the gate

    def _follow_gate(self) -> None:
        """Pull no more while the gate is shut, and again when it opens."""
        opens_in_s = self._gate.opens_in_s
        if opens_in_s != 0:
            self._withdraw()
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if opens_in_s and not self._stopping:
            self._opening = self._loop.call_later(opens_in_s, self._look_at_gate)

    def _look_at_gate(self) -> None:
        """Pull again, or wait on: uvloop counts whole milliseconds, so its timers may come a little too soon."""
        self._follow_gate()
        self.wake()

    async def _probe_for_ever(self, probe: Probe) -> None:
        """Ask `wait_for` whenever only its good answer opens the gate. Each news of what is wrong is told once."""
        told = None
        while True:
            if self._gate.wants_probe:
                why = await probe()
                if why is not None and why != told:
                    _log.warning(
                        "wait_for does not answer well; the actor gets nothing meanwhile",
                        event_name=self.actor.event, actor=self.actor.name, why=why,
                    )  # fmt: skip
                told = why
                self._gate.record_probe(available=why is None)
                self._follow_gate()
                self.wake()
            await asyncio.sleep(PROBE_INTERVAL_S)


async def _end(tasks: Sequence[asyncio.Task[None]], timeout_s: float) -> None:
    """Cancel tasks; once more after some seconds, where NATS does not answer their last question."""
    for task in tasks:
        task.cancel()
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.wait(tasks)
