"""The handling of deliveries: attempt, decide, settle, observe."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog

from walnatsd.broker.answers import send_error, send_response
from walnatsd.broker.dead_letters import Death
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.errors import BrokerError
from walnatsd.dispatch.attempted import Attempted, observe, observe_handled
from walnatsd.dispatch.attempts import Attempts
from walnatsd.dispatch.gate import Era, Gate
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.dispatch.target import Target
from walnatsd.model import headers
from walnatsd.model.actor import Actor
from walnatsd.model.attempt import Attempt
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.refusal import Refusal
from walnatsd.model.reply import may_reply, reply_subject
from walnatsd.model.retry import ACK, AT_ONCE, Ack, DeadLetter, Decision, Pause, Retry, Skip, decide

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import DeliveryTrace

T = TypeVar("T")

PARK_OVER_S = 60.0
"""What must wait longer than this is parked: in the consumer it would count against `max_ack_pending`."""
UNSTORED_DEAD_LETTER_PAUSE_S = 30.0
PAUSED_JUST_NOW_S = 1.0

_log = structlog.get_logger("walnatsd.dispatch")


class Begun(NamedTuple):
    """An attempt that has begun."""

    delivery: Delivery
    message: Message
    """As the actor shall see it."""
    number: int
    """Which attempt it is, from 1."""
    at: float
    """When it began, in seconds since the epoch."""
    started: float
    """The same on the performance counter."""
    era: Era
    trace: "DeliveryTrace | None"


class Handling:
    """Handles the deliveries of one actor, whatever order and number they come in."""

    def __init__(
        self,
        actor: Actor,
        target: Target,
        sidecar: Sidecar,
        gate: Gate,
        *,
        pause: Callable[[str], Awaitable[bool]],
        gate_changed: Callable[[], None],
        hold_retries: bool = False,
    ) -> None:
        """Prepare the handling.

        Args:
            actor: The declaration.
            target: Who is called.
            sidecar: What is shared.
            gate: What the actor can bear; told of every outcome.
            pause: Pauses the actor for all sidecars, with the reason; False where the server can't.
            gate_changed: Called after an outcome that may have shut or opened the gate.
            hold_retries: Hand a message that is to be tried again back without the wait, so that it comes again at once;
                the caller holds it until its time.
        """
        self._actor = actor
        self._target = target
        self._sidecar = sidecar
        self._gate = gate
        self._pause = pause
        self._gate_changed = gate_changed
        self._hold_retries = hold_retries
        self._rejections_in_a_row = 0
        self._pausing = asyncio.Lock()
        self._paused_at = -PAUSED_JUST_NOW_S
        self.attempts = Attempts()
        self.trouble: Attempt | None = None
        """The last attempt that was no success, whatever message it was at."""
        self.last_word_by: float | None = None
        """When the last settlement must be said, by the loop's clock: the actor stops. None where there is time."""

    # ---- one delivery

    async def handle(self, delivery: Delivery, message: Message) -> Decision:
        """Carry one delivery to its end: attempt, decide, settle, observe. It has a slot of the sidecar.

        Args:
            delivery: What is settled.
            message: The delivery's message as the actor shall see it.
        """
        return await self.conclude(await self.attempt(delivery, message))

    async def attempt(self, delivery: Delivery, message: Message) -> Attempted:
        """Call the actor with a message. What comes of it is to be concluded, or acknowledged with others."""
        begun = self.begin(delivery, message)
        try:
            outcome = await self._target.attempt(begun.message, begun.number)
        except asyncio.CancelledError:  # the stop can't wait for it
            await self.abandon(begun)
            raise
        return self.end(begun, outcome)

    def begin(self, delivery: Delivery, message: Message) -> Begun:
        """Begin an attempt: the actor is called after this, and it is ended or abandoned after that."""
        number, trace = self.attempts.number(delivery), None
        if (tracing := self._sidecar.tracing) is not None:
            trace = tracing.deliver(self._actor, message, number)
            message = trace.continued(message) if trace is not None else message
        if (reports := self._sidecar.reports) is not None:
            reports.started(self._actor)
        return Begun(delivery, message, number, time.time(), time.perf_counter(), self._gate.start(), trace)

    def end(self, begun: Begun, outcome: Outcome) -> Attempted:
        """Take note of what an attempt came to."""
        delivery, _, number, at, started, era, trace = begun
        duration_s = time.perf_counter() - started
        self._gate.record(outcome, era)
        if trace is not None:
            trace.attempted(outcome)
        return Attempted(delivery, Attempt(number, at, duration_s, outcome), trace)

    async def abandon(self, begun: Begun) -> None:
        """Hand a delivery back whose attempt has not ended: the stop can't wait for it."""
        if begun.trace is not None:
            begun.trace.cancelled()
        await self.settle(begun.delivery, AT_ONCE)

    async def conclude(self, attempted: Attempted) -> Decision:
        """Decide what becomes of a delivery after an attempt, settle it, observe it."""
        delivery, attempt, trace = attempted
        decision = decide(
            attempt.outcome,
            attempt=attempt.number,
            deliveries=delivery.hand_overs,
            policy=self._actor.retry_policy,
            draw=random.random(),  # noqa: S311 - jitter is no secret
        )
        if isinstance(decision, Ack):
            await self.acknowledge([attempted])
            return decision
        self.attempts.remember(delivery, attempt)
        self.trouble = attempt
        carried_out = await self.settle(delivery, decision, attempt)
        if trace is not None:
            trace.settled(attempt, carried_out)
        observe(self._sidecar.metrics, self._actor, attempted, decision)
        if (reports := self._sidecar.reports) is not None:
            reports.ended(self._actor, delivery.message, attempt, carried_out)
        await self._mind(attempt.outcome)
        return carried_out

    async def acknowledge(self, handled: Sequence[Attempted]) -> None:
        """Settle deliveries whose attempts were a success, together, and observe them."""
        deliveries = [delivery for delivery, _, _ in handled]
        forgotten = await self._shielded(lambda: Delivery.ack_all(deliveries)) or ()
        for delivery in forgotten:
            self.attempts.keep_done(delivery)
        self.attempts.forget_all(deliveries)
        if self._actor.responds or self._sidecar.tracing is not None:
            for delivery, attempt, trace in handled:
                self._respond(delivery.message, attempt)
                if trace is not None:
                    trace.settled(attempt, ACK)
        observe_handled(self._sidecar.metrics, self._actor, handled)
        if (reports := self._sidecar.reports) is not None:
            for delivery, attempt, _ in handled:
                reports.ended(self._actor, delivery.message, attempt, ACK)
        await self._mind(handled[0].attempt.outcome)

    async def settle(self, delivery: Delivery, decision: Decision, attempt: Attempt | None = None) -> Decision:
        """Settle a delivery, once. But for acks of what was handled together, nothing else does.

        Returns:
            What was carried out: the decision, or a retry where a dead letter could not be stored.
        """
        return await self._shielded(lambda: self._carry_out(delivery, decision, attempt)) or decision

    async def _shielded(self, settling: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Settle; a stop that can't wait lets the word go out all the same."""
        try:
            return await self._in_time(settling())
        except asyncio.CancelledError:
            await self._in_time(settling())  # saying it twice is harmless
            raise

    async def _in_time(self, settling: Coroutine[Any, Any, T]) -> T | None:
        """Settle however long NATS takes, but where a stop can't wait."""
        if self.last_word_by is None:
            return await settling
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self.last_word_by):
                return await settling
        return None

    async def _carry_out(self, delivery: Delivery, decision: Decision, attempt: Attempt | None) -> Decision:
        match decision:
            case Ack():
                self._close(delivery, confirmed=await delivery.ack())
            case Skip(why):
                self._close(delivery, confirmed=await delivery.ack())
                self._sidecar.metrics.skipped(self._actor.event, self._actor.name, why).inc()
            case Retry(after_s, counts):
                if after_s > PARK_OVER_S and await self._park(delivery, decision, attempt):
                    if not await delivery.ack():
                        self.attempts.keep_done(delivery)
                    self._take_note(delivery, attempt, counts=counts)
                    self.attempts.park(delivery)
                else:
                    await delivery.nak(0.0 if self._hold_retries else after_s)
                    self._take_note(delivery, attempt, counts=counts)
            case DeadLetter(cause, reason):
                if not await self._bury(delivery, reason, attempt):
                    later = Retry(UNSTORED_DEAD_LETTER_PAUSE_S, counts=True)
                    return await self._carry_out(delivery, later, attempt)
                self._close(delivery, confirmed=await delivery.term(reason))
                self._sidecar.metrics.dead_letters(self._actor.event, self._actor.name, cause).inc()
                self._respond(delivery.message, reason)
            case Pause(reason):
                await self.pause_actor(reason)
                await delivery.nak()
                self._take_note(delivery, attempt, counts=False)
        return decision

    def _close(self, delivery: Delivery, *, confirmed: bool) -> None:
        """Forget a message that is settled for good, but for that where the server will hand it over again."""
        self.attempts.forget(delivery)
        if not confirmed:
            self.attempts.keep_done(delivery)

    def _take_note(self, delivery: Delivery, attempt: Attempt | None, *, counts: bool) -> None:
        """Remember of a delivery that comes again whether there was an attempt, and whether it counts."""
        if attempt is None:
            self.attempts.defer(delivery)
        elif not counts:
            self.attempts.excuse(delivery)

    async def _park(self, delivery: Delivery, retry: Retry, attempt: Attempt | None) -> bool:
        """Store the message for later, so that it can be settled here. Where that fails, it waits in its consumer."""
        route = self._sidecar.route
        if self._actor.order_by is not None:
            return False  # what comes back over the route comes out of its order
        if delivery.is_on_route and attempt is None and not route.has_schedules:
            return False  # it waits there already, and stands in nobody's way
        message, labels = delivery.message, (self._actor.event, self._actor.name)
        attempts = self.attempts.number(delivery) - (not retry.counts)
        try:
            await route.park(self._actor.name, delivery, until=time.time() + retry.after_s, attempts=attempts)
        except (Refusal, BrokerError) as error:
            self._sidecar.metrics.park_failures(*labels).inc()
            _log.error(
                "a message that must wait long could not be parked; it waits in its consumer",
                event_name=message.event, actor=self._actor.name, sequence=message.sequence,
                after_s=round(retry.after_s, 3), why=str(error),
            )  # fmt: skip
            return False
        self._sidecar.metrics.parked(*labels).inc()
        return True

    async def _bury(self, delivery: Delivery, reason: str, attempt: Attempt | None) -> bool:
        """Store the dead letter. Where that fails, the message keeps waiting."""
        message, number = delivery.message, attempt.number if attempt else 0
        death = Death(
            actor=self._actor.name,
            reason=reason,
            status=attempt.outcome.status if attempt else None,
            attempts=number,
            at=attempt.at if attempt else time.time(),
            history=self.attempts.history(delivery).as_json(),
        )
        try:
            await self._sidecar.dead_letters.store(message, death)
        except Refusal as refusal:
            self._sidecar.metrics.dead_letter_failures(self._actor.event, self._actor.name).inc()
            _log.error(
                "a dead letter could not be stored; its message keeps waiting",
                event_name=message.event, actor=self._actor.name, sequence=message.sequence, why=refusal.message,
            )  # fmt: skip
            return False
        if attempt is None:  # otherwise the attempt's own line and span say it
            if (tracing := self._sidecar.tracing) is not None:
                tracing.give_up(self._actor, message, reason)
            if (reports := self._sidecar.reports) is not None:
                reports.given_up(self._actor, message, reason)
            _log.warning(
                "a message became a dead letter without an attempt",
                event_name=message.event, actor=self._actor.name, uid=message.uid, sequence=message.sequence,
                reason=reason,
            )  # fmt: skip
        return True

    def _respond(self, message: Message, what: Attempt | str | None) -> None:
        """Answer who waits for it, after the confirmed settlement: the actor's response, or why there is none."""
        subject = reply_subject(message.headers)
        if subject is None or not self._actor.responds:
            return
        connection, actor = self._sidecar.connection, self._actor.name
        if not may_reply(subject, self._sidecar.reply_prefixes):
            result = "refused"
        elif isinstance(what, str):
            if headers.REPLY_ERRORS not in message.headers:
                return
            result = send_error(connection, subject, "DEAD_LETTER", what, actor=actor)
        elif what is not None and what.outcome.response is not None:
            result = send_response(connection, subject, what.outcome.response, actor=actor)
        else:
            return
        self._sidecar.metrics.answers(self._actor.event, actor, result).inc()

    # ---- the actor as a whole

    async def _mind(self, outcome: Outcome) -> None:
        """Follow what an outcome means for the actor as a whole."""
        self._gate_changed()
        if outcome.verdict is Verdict.REJECTED:
            self._rejections_in_a_row += 1
            after = self._sidecar.pause_after
            if after is not None and self._rejections_in_a_row >= after:
                await self.pause_actor(f"{after} permanent rejections in a row; the last one: {outcome.reason}")
        elif outcome.verdict in (Verdict.ACKNOWLEDGED, Verdict.FAILED):  # the others say nothing about the messages
            self._rejections_in_a_row = 0

    async def pause_actor(self, reason: str) -> None:
        """Pause the actor: for all sidecars, or where the server can't, for this one."""
        async with self._pausing:  # attempts that were in flight together say so together
            if self._gate.state == "paused" or time.monotonic() - self._paused_at < PAUSED_JUST_NOW_S:
                return
            _log.warning(
                "the actor is paused; its messages are kept",
                event_name=self._actor.event,
                actor=self._actor.name,
                reason=reason,
            )
            self._rejections_in_a_row = 0  # once it is resumed, it gets as many again
            if not await self._pause(reason):
                self._gate.pause()
                self._gate_changed()
            self._paused_at = time.monotonic()
