"""Deliveries gathered into batches: one request, many messages, a result for each."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from walnatsd.broker.delivery import Delivery
from walnatsd.broker.wire import made
from walnatsd.dispatch.attempted import Attempted
from walnatsd.dispatch.gate import Gate
from walnatsd.dispatch.hand import Hand
from walnatsd.dispatch.handling import Handling
from walnatsd.dispatch.intake import BUSY_PAUSE_S, StartJob
from walnatsd.dispatch.screen import Screen
from walnatsd.dispatch.slots import Slots
from walnatsd.dispatch.target import BatchTarget
from walnatsd.model.actor import Actor, Batch
from walnatsd.model.attempt import Attempt
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.retry import AT_ONCE, Decision, Retry
from walnatsd.observe.reports import Reports

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import Tracing


Item = tuple[Delivery, Message]
"""A message in a batch, as it is settled and as the actor shall see it."""


class BatchIntake:
    """Gathers messages until a batch is full or has waited long enough, then sends it. A batch takes one slot.

    A batch that is due while no more requests may be in flight stays open until one of them has ended.
    """

    def __init__(
        self,
        actor: Actor,
        batch: Batch,
        target: BatchTarget,
        hand: Hand,
        gate: Gate,
        screen: Screen,
        handling: Handling,
        slots: Slots,
        *,
        tracing: "Tracing | None",
        reports: Reports | None,
        start: StartJob,
        wake: Callable[[], None],
    ) -> None:
        self._tracing = tracing
        self._reports = reports
        self._actor = actor
        self._max_size, self._max_bytes, self._max_wait_s = batch.max_size, batch.max_bytes, batch.max_wait
        self._target = target
        self._hand = hand
        self._gate = gate
        self._screen = screen
        self._handling = handling
        self._slots = slots
        self._start = start
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Item] = []
        self._gathered_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        """Whether the open batch waits for a request to end."""
        self._requests = 0
        """Batches under way, those that wait for a slot included."""
        self._unstarted = 0
        """Those that wait for a slot."""
        self._stopping = False

    def capacity(self) -> int:
        """How many more messages there is room for: those of the batches that may start, and what the open one lacks."""
        if self._unstarted or self._stopping:
            return 0
        return self._requests_left() * self._max_size - len(self._gathered)

    def _requests_left(self) -> int:
        """How many requests may start now; at most one waits for a slot of the sidecar."""
        room = self._gate.allowance() - self._requests
        starts = self._gate.starts_left(room + self._unstarted) - self._unstarted
        return min(room, starts, self._slots.share - self._unstarted)

    def receive(self, delivery: Delivery) -> None:
        """Hold it and put it into the open batch."""
        if not self._hand.take(delivery):
            return
        if self._stopping:
            self._start(self._settle_all([delivery], AT_ONCE), str(delivery.message.sequence))
            return
        seen = self._screen.look(delivery.message, now=time.time())
        if not isinstance(seen, Message):
            self._settle_later([delivery], seen)
            return
        size_bytes = len(seen.payload)
        # a full one is sent at once or is due, so that there is room otherwise
        is_tight = self._is_due or self._gathered_bytes + size_bytes > self._max_bytes
        if is_tight and not self._has_room(size_bytes):
            self._send_if_possible()
            if not self._has_room(size_bytes):
                self._settle_later([delivery], Retry(BUSY_PAUSE_S, counts=False))
                return
        self._gathered.append((delivery, seen))
        self._gathered_bytes += size_bytes
        if len(self._gathered) >= self._max_size or self._gathered_bytes >= self._max_bytes:
            self._send_if_possible()
        elif self._timer is None and not self._is_due:
            self._timer = self._loop.call_later(self._max_wait_s, self._send_if_possible)

    def _has_room(self, size_bytes: int) -> bool:
        """Whether the open batch has room for a payload of this size. An empty one has, whatever the size."""
        if not self._gathered:
            return True
        return len(self._gathered) < self._max_size and self._gathered_bytes + size_bytes <= self._max_bytes

    def look(self) -> None:
        """Nothing waits here for the gate."""

    async def hand_back(self) -> None:
        """Hand back what is gathered."""
        self._stopping = True
        await self._settle_all(_deliveries(self._take()), AT_ONCE)

    def _send_if_possible(self) -> None:
        """Send the open batch, or leave it open until a request has ended. Where the gate is shut, hand it back."""
        if not self._gathered:
            return
        if self._requests_left() > 0:
            items = self._take()
            self._requests += 1
            self._unstarted += 1
            self._start(self._carry(items), f"batch-{items[0][0].message.sequence}")
        elif self._requests and self._gate.opens_in_s == 0:
            self._is_due = True
        else:
            self._settle_later(_deliveries(self._take()), self._later())

    def _take(self) -> list[Item]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        items, self._gathered, self._gathered_bytes = self._gathered, [], 0
        self._is_due = False
        return items

    async def _carry(self, items: list[Item]) -> None:
        """Carry a batch to its end: wait for a slot, send, settle each."""
        deliveries = _deliveries(items)
        try:
            try:
                await self._slots.take(self._actor.priority)
            except asyncio.CancelledError:
                await self._settle_all(deliveries, AT_ONCE)
                raise
            finally:
                self._unstarted -= 1
            try:
                if self._is_shut() or self._gate.allowance() < self._requests - self._unstarted:
                    await self._settle_all(deliveries, self._later())  # the wait may have been long
                else:
                    await self._attempt(items)
            finally:
                self._slots.give_back()
        finally:
            self._requests -= 1
            if self._is_due:
                self._send_if_possible()
            self._wake()

    def _is_shut(self) -> bool:
        return self._stopping or self._gate.opens_in_s != 0

    def _later(self) -> Retry:
        """Tell when to come again."""
        return Retry(0.0 if self._stopping else self._gate.opens_in_s or BUSY_PAUSE_S, counts=False)

    async def _attempt(self, items: list[Item]) -> None:
        """Send a batch. One that is rejected as a whole is sent again one by one, so that only the poison dies."""
        number_of = self._handling.attempts.number
        numbers = [number_of(delivery) for delivery, _ in items]
        messages = [message for _, message in items]
        trace = None
        if (tracing := self._tracing) is not None:
            trace = tracing.deliver_batch(self._actor, messages)
        if self._reports is not None:
            self._reports.started(self._actor, len(items))
        began, started, era = time.time(), time.perf_counter(), self._gate.start()
        try:
            answer = await self._target.attempt_batch(
                list(zip(messages, numbers, strict=True)), trace.header() if trace is not None else {}
            )
        except asyncio.CancelledError:
            if trace is not None:
                trace.cancelled()
            await self._settle_all(_deliveries(items), AT_ONCE)
            raise
        duration_s = time.perf_counter() - started
        as_a_whole = answer if isinstance(answer, Outcome) else _ANSWERED
        self._gate.record(as_a_whole, era)
        if trace is not None:
            trace.attempted(as_a_whole)
        if as_a_whole.verdict is Verdict.REJECTED and len(items) > 1:
            if trace is not None:
                trace.settled_all([as_a_whole] * len(items))
            await self._one_by_one(items)
            return
        attempts = _attempts(numbers, began, duration_s, answer)
        await self._conclude_all(
            [made(Attempted, (delivery, attempt, None)) for (delivery, _), attempt in zip(items, attempts, strict=True)]
        )
        if trace is not None:
            trace.settled_all([attempt.outcome for attempt in attempts])

    async def _one_by_one(self, items: list[Item]) -> None:
        left = deque(items)
        try:
            while left and not self._is_shut():
                await self._attempt([left.popleft()])
        except asyncio.CancelledError:
            await self._settle_all(_deliveries(left), AT_ONCE)
            raise
        await self._settle_all(_deliveries(left), self._later())

    async def _conclude_all(self, attempts: Sequence[Attempted]) -> None:
        """Conclude each; what was handled together, for a task for each would cost more than they."""
        acknowledged = Verdict.ACKNOWLEDGED  # a member of an enumeration is a call each time
        handled = [each for each in attempts if each.attempt.outcome.verdict is acknowledged]
        if len(handled) == len(attempts):
            await self._acknowledge(handled)
        else:
            others = [each for each in attempts if each.attempt.outcome.verdict is not acknowledged]
            await asyncio.gather(self._acknowledge(handled), *map(self._conclude, others))

    async def _acknowledge(self, handled: Sequence[Attempted]) -> None:
        if not handled:
            return
        try:
            await self._handling.acknowledge(handled)
        finally:
            self._hand.let_go_all([delivery for delivery, _, _ in handled])

    async def _conclude(self, attempted: Attempted) -> None:
        try:
            await self._handling.conclude(attempted)
        finally:
            self._hand.let_go(attempted.delivery)

    def _settle_later(self, deliveries: Sequence[Delivery], decision: Decision) -> None:
        self._start(self._settle_all(deliveries, decision), str(deliveries[0].message.sequence))

    async def _settle_all(self, deliveries: Sequence[Delivery], decision: Decision) -> None:
        async def settle(delivery: Delivery) -> None:
            try:
                await self._handling.settle(delivery, decision)
            finally:
                self._hand.let_go(delivery)

        await asyncio.gather(*map(settle, deliveries))
        self._wake()


def _deliveries(items: Iterable[Item]) -> list[Delivery]:
    return [delivery for delivery, _ in items]


def _attempts(
    numbers: Sequence[int], began: float, duration_s: float, answer: Outcome | Sequence[Outcome]
) -> list[Attempt]:
    """Give the attempt at each message. Those of the same number share one, where the answer is for all of them."""
    if isinstance(answer, Outcome):
        shared = {number: Attempt(number, began, duration_s, answer) for number in set(numbers)}
        return [shared[number] for number in numbers]
    return [Attempt(number, began, duration_s, outcome) for number, outcome in zip(numbers, answer, strict=True)]


_ANSWERED = Outcome(Verdict.ACKNOWLEDGED, "answered item by item")
"""What a batch with results per item is to the gate: the actor is there."""
