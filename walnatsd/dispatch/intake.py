"""How deliveries come to be handled: each on its own, in any order."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from walnatsd.broker.delivery import Delivery, Key
from walnatsd.dispatch.attempted import Attempted
from walnatsd.dispatch.gate import Gate
from walnatsd.dispatch.hand import Hand
from walnatsd.dispatch.handling import Begun, Handling
from walnatsd.dispatch.screen import Screen
from walnatsd.dispatch.slots import Slots
from walnatsd.dispatch.target import HandoverTarget
from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.retry import AT_ONCE, Decision, Retry

BUSY_PAUSE_S = 0.1
_ACKNOWLEDGED = Verdict.ACKNOWLEDGED  # a member of an enumeration is a call each time

StartJob = Callable[[Coroutine[Any, Any, None], str], None]
"""Runs a job within the life of the actor; it is waited for or cancelled at the stop."""


class Intake(Protocol):
    """Takes deliveries in and starts their handling."""

    def capacity(self) -> int:
        """How many more messages there is room for, those that were asked for not counted."""

    def receive(self, delivery: Delivery) -> None:
        """Take a delivery, which is not held yet."""

    def look(self) -> None:
        """See whether what is held and has not been started can start now: the gate may have opened."""

    async def hand_back(self) -> None:
        """Hand back what has not been started: the actor stops. Nothing is received any more."""


class SingleIntake:
    """One message per attempt, as many at once as the gate and the sidecar's slots allow.

    A delivery is carried by a job of its own; where the target takes messages at once, only what has to wait before it is
    attempted, or was no success.
    """

    def __init__(
        self,
        actor: Actor,
        hand: Hand,
        gate: Gate,
        screen: Screen,
        handling: Handling,
        slots: Slots,
        *,
        target: HandoverTarget | None,
        start: StartJob,
        wake: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            actor: The declaration.
            hand: Holds the deliveries.
            gate: What the actor can bear.
            screen: Decides what needs no attempt.
            handling: Handles single deliveries.
            slots: Of the sidecar.
            target: Takes messages at once; None where the actor is to be called and its answer awaited.
            start: Runs a job within the life of the actor.
            wake: Has the pull look again whether there is room.
        """
        self._actor = actor
        self._target = target
        self._handed_over: dict[Key, Begun] = {}
        self._none_left = asyncio.Event()
        self._hand = hand
        self._gate = gate
        self._screen = screen
        self._handling = handling
        self._slots = slots
        self._start = start
        self._wake = wake
        self._unstarted = 0
        self._one_waits = False
        self._handled: list[Attempted] = []
        """Acknowledged in this turn of the loop, and not settled yet."""
        self._room = asyncio.Event()
        self._stopping = False

    def capacity(self) -> int:
        """How many more messages there is room for: the actor's free slots, as far as the sidecar has some too."""
        if self._one_waits or self._stopping:
            return 0
        room = self._gate.allowance() - len(self._hand)
        return min(room, self._gate.starts_left(room + self._unstarted) - self._unstarted, self._slots.share)

    def receive(self, delivery: Delivery) -> None:
        """Hold it, and hand it over or start a job for it."""
        if not self._hand.take(delivery):
            return
        seen = self._screen.look(delivery.message, now=time.time())
        if (
            self._target is not None
            and isinstance(seen, Message)
            and self._why_not_now() is None
            and self._slots.take_at_once()
        ):
            self._hand_over(self._target, delivery, seen)
            return
        self._unstarted += 1
        self._start(self._carry(delivery, seen), str(delivery.message.sequence))

    def look(self) -> None:
        """Nothing waits here for the gate."""

    async def hand_back(self) -> None:
        """Nothing waits here: what has no slot yet sees that the actor stops."""
        self._stopping = True
        self._room.set()

    async def _carry(self, delivery: Delivery, seen: Message | Decision) -> None:
        """Hold a delivery until it is settled, or until another job sees to that."""
        try:
            attempted = await self._attempt(delivery, seen)
        except BaseException:
            self._let_go([delivery])
            raise
        if attempted is None:
            self._let_go([delivery])
        elif attempted.attempt.outcome.verdict is _ACKNOWLEDGED:
            self._handled.append(attempted)
            if len(self._handled) == 1:
                await self._acknowledge()
        else:
            await self._conclude(attempted)

    async def _attempt(self, delivery: Delivery, seen: Message | Decision) -> Attempted | None:
        """See whether the delivery can be attempted now, and do so. What can't be attempted is settled."""
        try:
            if not isinstance(seen, Message):
                await self._handling.settle(delivery, seen)
                return None
            busy = self._why_not_now()
            if busy is not None:
                busy = await self._wait_for_room(delivery)
            if busy is None and not self._slots.take_at_once():
                busy = await self._wait_for_slot(delivery)
            if busy is not None:
                await self._handling.settle(delivery, busy)
                return None
        finally:
            self._unstarted -= 1
        try:
            return await self._handling.attempt(delivery, seen)
        finally:
            self._slots.give_back()

    def _hand_over(self, target: HandoverTarget, delivery: Delivery, seen: Message) -> None:
        """Attempt a delivery that has a slot, without a job of its own: one watches over all that are handed over."""
        begun = self._handling.begin(delivery, seen)
        self._handed_over[delivery.key] = begun
        if len(self._handed_over) == 1:
            self._none_left = asyncio.Event()
            self._start(self._watch_over(self._none_left), "handed-over")
        target.hand_over(begun.message, begun.number, functools.partial(self._end, begun))

    def _end(self, begun: Begun, outcome: Outcome) -> None:
        """Conclude an attempt without a job of its own, but where it was abandoned meanwhile."""
        key = begun.delivery.key
        if self._handed_over.get(key) is not begun:
            return
        del self._handed_over[key]
        if not self._handed_over:
            self._none_left.set()
        self._slots.give_back()
        attempted = self._handling.end(begun, outcome)
        if outcome.verdict is not _ACKNOWLEDGED:
            self._start(self._conclude(attempted), str(begun.message.sequence))
            return
        self._handled.append(attempted)
        if len(self._handled) == 1:
            self._start(self._acknowledge(), str(begun.message.sequence))

    async def _watch_over(self, none_left: asyncio.Event) -> None:
        """Be the job of all that is handed over: a stop waits for it, or has it give the rest back."""
        try:
            await none_left.wait()
        except asyncio.CancelledError:
            abandoned, self._handed_over = list(self._handed_over.values()), {}
            await asyncio.gather(*map(self._abandon, abandoned))
            raise

    async def _abandon(self, begun: Begun) -> None:
        assert self._target is not None
        self._target.take_back(begun.message)
        try:
            await self._handling.abandon(begun)
        finally:
            self._slots.give_back()
            self._let_go([begun.delivery])

    async def _conclude(self, attempted: Attempted) -> None:
        try:
            await self._handling.conclude(attempted)
        finally:
            self._let_go([attempted.delivery])

    async def _acknowledge(self) -> None:
        """Settle all that is handled in this turn of the loop; the job of the first one sees to it.

        The round trip and what is to be done after it cost so many as little as one.
        """
        try:
            await asyncio.sleep(0)
        finally:  # where the stop can't wait, acknowledging has only a moment, as it has then anyway
            handled, self._handled = self._handled, []
            try:
                await self._handling.acknowledge(handled)
            finally:
                self._let_go([delivery for delivery, _, _ in handled])

    def _let_go(self, deliveries: Sequence[Delivery]) -> None:
        self._hand.let_go_all(deliveries)
        self._room.set()
        self._wake()

    def _why_not_now(self) -> Retry | None:
        """Tell when to come again where the gate has shut since the message was asked for."""
        if self._stopping:
            return AT_ONCE
        if len(self._hand) > self._gate.allowance() or self._gate.starts_left(1) < 1:
            return Retry(self._gate.opens_in_s or BUSY_PAUSE_S, counts=False)
        return None

    async def _wait_for_room(self, delivery: Delivery) -> Retry | None:
        """Wait while there is one message too many: two pulls ask for what is free, and both may get something.

        Handing it back instead would let one of the pulls starve the other.
        """
        while (late := self._why_not_now()) is not None:
            if self._stopping or self._one_waits or self._gate.opens_in_s != 0 or self._gate.allowance() < 1:
                return late
            self._room.clear()
            await self._while_waiting(delivery, self._room.wait())
        return None

    async def _wait_for_slot(self, delivery: Delivery) -> Retry | None:
        """Wait for one of the sidecar's slots, or tell when to come again; at most one message of an actor waits for one."""
        if self._one_waits:
            return Retry(BUSY_PAUSE_S, counts=False)
        await self._while_waiting(delivery, self._slots.take(self._actor.priority))
        if (late := self._why_not_now()) is not None:  # the wait may have been long
            self._slots.give_back()
        return late

    async def _while_waiting(self, delivery: Delivery, turn: Awaitable[object]) -> None:
        """Await a delivery's turn. At most one of the actor's waits, and nothing is asked for meanwhile."""
        self._one_waits = True
        try:
            await turn
        except BaseException:
            await self._handling.settle(delivery, AT_ONCE)
            raise
        finally:
            self._one_waits = False
            self._wake()
