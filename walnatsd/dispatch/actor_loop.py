"""The loop of one actor: pull for free slots, carry each delivery to its end, stop without loss."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.dead_letters import DeadLetters, Death
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.pull import ConsumerGoneError, Pull
from walnatsd.dispatch.attempts import Attempts
from walnatsd.dispatch.gate import Gate
from walnatsd.dispatch.pulse import Pulse
from walnatsd.dispatch.slots import Slots
from walnatsd.model.actor import Actor
from walnatsd.model.delay import delay_left_s
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.refusal import Refusal
from walnatsd.model.retry import Ack, Cause, DeadLetter, Decision, Pause, Retry, decide
from walnatsd.observe.metrics import Metrics

BUSY_PAUSE_S = 0.1
UNSTORED_DEAD_LETTER_PAUSE_S = 30.0
LAST_SETTLEMENT_S = 2.0

Attempt = Callable[[Message, int], Awaitable[Outcome]]

_log = structlog.get_logger("walnatsd.dispatch")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the actors of one sidecar share."""

    connection: Connection
    jetstream: JetStream
    dead_letters: DeadLetters
    slots: Slots
    pulse: Pulse
    metrics: Metrics
    pause_after: int | None
    """Permanent rejections in a row that pause an actor."""


class ActorLoop:
    """Dispatch for one actor in this sidecar."""

    def __init__(
        self,
        actor: Actor,
        attempt: Attempt,
        sidecar: Sidecar,
        *,
        pause: Callable[[str], Awaitable[bool]],
        restore: Callable[[str], Awaitable[None]],
    ) -> None:
        """Prepare the loop.

        Args:
            actor: The declaration.
            attempt: Calls the actor with a message and the number of the attempt; never raises.
            sidecar: What is shared.
            pause: Pauses the actor for all sidecars, with the reason; False where the server can't.
            restore: Registers the actor again after its consumer has gone, with the reason; returns when it is there.
        """
        self.actor = actor
        self._attempt = attempt
        self._sidecar = sidecar
        self._pause = pause
        self._restore = restore
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(actor.breaker, self._loop.time)
        self._attempts = Attempts()
        self._in_flight: dict[int, Delivery] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._waits_for_slot = False
        self._rejections_in_a_row = 0
        self._stopping = False
        self._puller: asyncio.Task[None] | None = None
        self._labels = (actor.event, actor.name)
        self._path = f"actors/{actor.event}/{actor.name}"
        self._pull = Pull(
            sidecar.connection,
            sidecar.jetstream,
            event=actor.event,
            stream=actor.stream,
            consumer=actor.name,
            capacity=self._capacity,
            receive=self._receive,
        )

    # ---- life

    async def run(self) -> None:
        """Pull and dispatch until `stop`."""
        if self._stopping:
            return
        async with asyncio.TaskGroup() as self._tasks:
            self._puller = self._tasks.create_task(self._pull_for_ever(), name=f"{self._path}/pull")

    async def stop(self, timeout_s: float) -> None:
        """Stop pulling, let jobs finish for `timeout_s` seconds, hand the rest back. `run` returns then."""
        self._stopping = True
        if self._puller is None:
            return
        self._puller.cancel()
        await asyncio.wait([self._puller])
        if self._jobs:
            _, late = await asyncio.wait(self._jobs, timeout=timeout_s)
            for job in late:
                job.cancel()
            if late:
                await asyncio.wait(late)

    async def _pull_for_ever(self) -> None:
        while True:
            try:
                await self._pull.run()
            except ConsumerGoneError as error:
                await self._restore(str(error))

    # ---- taking messages in

    def _capacity(self) -> int:
        """How many more messages there is room for: the actor's free slots, as far as the sidecar has some too."""
        free = self._gate.allowance(self.actor.max_jobs) - len(self._in_flight)
        return min(free, max(1, self._sidecar.slots.free))

    def _receive(self, delivery: Delivery) -> None:
        sequence = delivery.message.sequence
        if held := self._in_flight.get(sequence):
            # redelivered while it is in our hands: still one attempt at a time, settled by the newer hand-over
            held.take_over(delivery)
            self._attempts.defer(sequence)
            return
        self._in_flight[sequence] = delivery
        job = self._tasks.create_task(self._carry(delivery), name=f"{self._path}/{sequence}")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _carry(self, delivery: Delivery) -> None:
        """Bracket the handling of a delivery: counted and pulsed while it lasts."""
        in_flight = self._sidecar.metrics.in_flight(*self._labels)
        in_flight.inc()
        if self.actor.pulse:
            self._sidecar.pulse.keep(delivery, ack_wait_s=self.actor.ack_wait)
        try:
            await self._handle(delivery)
        finally:
            self._sidecar.pulse.drop(delivery)
            in_flight.dec()
            del self._in_flight[delivery.message.sequence]
            self._pull.wake()

    # ---- one delivery

    async def _handle(self, delivery: Delivery) -> None:
        """Carry one delivery to its end: attempt, decide, settle, observe."""
        message = delivery.message
        decision = self._without_attempt(message)
        if decision is None and not await self._take_slot(delivery):
            decision = Retry(BUSY_PAUSE_S, counts=False)
        if decision is not None:
            await self._settle(delivery, decision, outcome=None, attempt=0)
            return
        attempt = self._attempts.number(message.sequence, delivery.deliveries)
        started = time.perf_counter()
        try:
            outcome = await self._attempt(message, attempt)
        except asyncio.CancelledError:  # the stop can't wait for it
            await self._settle(delivery, Retry(0.0, counts=False), outcome=None, attempt=attempt)
            raise
        finally:
            self._sidecar.slots.give_back()
        duration_s = time.perf_counter() - started
        self._gate.record(outcome)
        decision = decide(
            outcome,
            attempt=attempt,
            deliveries=delivery.deliveries,
            policy=self.actor.retry_policy,
            draw=random.random(),  # noqa: S311 - jitter is no secret
        )
        await self._settle(delivery, decision, outcome=outcome, attempt=attempt)
        self._observe(message, attempt, outcome, decision, duration_s)
        await self._mind_the_gate(outcome)

    def _without_attempt(self, message: Message) -> Decision | None:
        """Decide what needs no attempt: it is too early for the message, or no time for the actor."""
        try:
            left_s = delay_left_s(message.headers, time.time())
        except ValueError as error:
            return DeadLetter(Cause.MALFORMED, str(error))
        if left_s:
            return Retry(left_s, counts=False)
        if self._stopping:
            return Retry(0.0, counts=False)
        if len(self._in_flight) > self._gate.allowance(self.actor.max_jobs):
            return Retry(self._gate.opens_in_s or BUSY_PAUSE_S, counts=False)
        return None

    async def _take_slot(self, delivery: Delivery) -> bool:
        """Take one of the sidecar's slots; at most one message of an actor waits for one."""
        if self._sidecar.slots.take_at_once():
            return True
        if self._waits_for_slot:
            return False
        self._waits_for_slot = True
        try:
            await self._sidecar.slots.take()
        except asyncio.CancelledError:
            await self._settle(delivery, Retry(0.0, counts=False), outcome=None, attempt=0)
            raise
        finally:
            self._waits_for_slot = False
        return True

    async def _settle(self, delivery: Delivery, decision: Decision, *, outcome: Outcome | None, attempt: int) -> None:
        """Settle a delivery, once. Nothing else does. A stop that can't wait lets the word go out all the same."""
        try:
            await self._carry_out(delivery, decision, outcome, attempt)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SETTLEMENT_S):  # saying it twice is harmless
                    await self._carry_out(delivery, decision, outcome, attempt)
            raise

    async def _carry_out(self, delivery: Delivery, decision: Decision, outcome: Outcome | None, attempt: int) -> None:
        sequence = delivery.message.sequence
        match decision:
            case Ack():
                await delivery.ack()
                self._attempts.forget(sequence)
            case Retry(after_s, counts):
                await delivery.nak(after_s)
                if not counts:
                    self._attempts.defer(sequence)
            case DeadLetter(_, reason):
                if await self._bury(delivery.message, reason, outcome, attempt):
                    await delivery.term(reason)
                    self._attempts.forget(sequence)
                else:
                    await delivery.nak(UNSTORED_DEAD_LETTER_PAUSE_S)
            case Pause(reason):
                await self._pause_actor(reason)
                await delivery.nak()
                self._attempts.defer(sequence)

    async def _bury(self, message: Message, reason: str, outcome: Outcome | None, attempt: int) -> bool:
        """Store the dead letter. Where that fails, the message keeps waiting."""
        death = Death(self.actor.name, reason, outcome.status if outcome else None, attempt, time.time())
        try:
            await self._sidecar.dead_letters.store(message, death)
        except Refusal as refusal:
            self._sidecar.metrics.dead_letter_failures(*self._labels).inc()
            _log.error(
                "a dead letter could not be stored; its message keeps waiting",
                event_name=message.event, actor=self.actor.name, sequence=message.sequence, why=refusal.message,
            )  # fmt: skip
            return False
        return True

    # ---- after it

    def _observe(self, message: Message, attempt: int, outcome: Outcome, decision: Decision, duration_s: float) -> None:
        metrics, labels = self._sidecar.metrics, self._labels
        metrics.attempts(*labels, outcome.verdict).inc()
        metrics.attempt_seconds(*labels).observe(duration_s)
        log = _log.warning
        match decision:
            case Ack():
                metrics.acknowledged_seconds(*labels).observe(max(0.0, time.time() - message.stored_at))
                log = _log.debug
            case Retry(_, counts):
                metrics.retries(*labels, "true" if counts else "false").inc()
            case DeadLetter(cause, _):
                metrics.dead_letters(*labels, cause).inc()
        log(
            "attempt", event_name=message.event, actor=self.actor.name, uid=message.uid, sequence=message.sequence,
            attempt=attempt, outcome=outcome.verdict.value, status=outcome.status, reason=outcome.reason,
            decision=type(decision).__name__, after_s=round(getattr(decision, "after_s", 0.0), 3),
            duration_ms=round(duration_s * 1000, 2), trace_id=message.trace_id,
        )  # fmt: skip

    async def _mind_the_gate(self, outcome: Outcome) -> None:
        """Follow what the outcome means for the actor as a whole."""
        self._sidecar.metrics.breaker_open(*self._labels).set(self._gate.breaker_is_open)
        if opens_in_s := self._gate.opens_in_s:
            self._pull.withdraw()
            self._loop.call_later(opens_in_s, self._pull.wake)
        if outcome.verdict is Verdict.REJECTED:
            self._rejections_in_a_row += 1
            if self._rejections_in_a_row == self._sidecar.pause_after:
                await self._pause_actor(f"{self._rejections_in_a_row} permanent rejections in a row; {outcome.reason}")
        elif outcome.verdict is not Verdict.UNAVAILABLE:
            self._rejections_in_a_row = 0

    async def _pause_actor(self, reason: str) -> None:
        if self._gate.opens_in_s is None:
            return
        _log.warning(
            "the actor is paused; its messages are kept",
            event_name=self.actor.event,
            actor=self.actor.name,
            reason=reason,
        )
        if not await self._pause(reason):
            self._gate.pause()
            self._pull.withdraw()
