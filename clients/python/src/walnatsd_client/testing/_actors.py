"""Actors of the in-memory sidecar: who gets which message when, and what becomes of it."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.protobuf.message import Message as ProtobufMessage
from google.protobuf.timestamp_pb2 import Timestamp

from walnatsd_client._proto import actors_pb2, events_pb2, message_pb2
from walnatsd_client.testing._clock import Clock
from walnatsd_client.testing._refusal import Refusal

HEARTBEAT_S = 5.0
# What is not declared (contract, section 2).
MAX_JOBS = 16
JOB_TIMEOUT_S = 32.0
DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
MAX_ATTEMPTS = 20
LONGEST_AFTER_S = 3600.0


@dataclass(slots=True, eq=False)
class Stored:
    """A message in a stream."""

    request: events_pb2.EmitRequest
    uid: str
    sequence: int
    stored_at: float
    """Seconds since the epoch."""
    reply: "asyncio.Future[events_pb2.CallResponse] | None" = None
    """Who asked waits for it."""

    def message(self) -> message_pb2.Message:
        """Write it as the contract's message."""
        stored_at = Timestamp()
        stored_at.FromNanoseconds(round(self.stored_at * 1e9))
        return message_pb2.Message(
            event=self.request.event,
            payload=self.request.payload,
            content_type=self.request.content_type or "application/json",
            uid=self.uid,
            headers=self.request.headers,
            sequence=self.sequence,
            stored_at=stored_at,
            trace_id=self.request.trace_id,
        )


@dataclass(slots=True, eq=False)
class Letter:
    """A dead letter."""

    actor: str
    stored: Stored
    reason: str
    attempts: int


@dataclass(slots=True, eq=False)
class Unsettled:
    """A message that an actor has not settled."""

    stored: Stored
    attempts: int = 0
    is_ready: bool = True
    """It waits for a free place, and for nothing else."""


@dataclass(slots=True, eq=False)
class Session:
    """One listener."""

    places: int
    responses: "asyncio.Queue[actors_pb2.ListenResponse | None]" = field(default_factory=asyncio.Queue)
    in_flight: dict[int, tuple[Unsettled, asyncio.TimerHandle]] = field(default_factory=dict)
    is_leaving: bool = False

    @property
    def free(self) -> int:
        """How many more it takes."""
        return 0 if self.is_leaving else self.places - len(self.in_flight)


class Consumer:
    """What NATS and the sidecar know about one actor."""

    def __init__(self, declaration: actors_pb2.Actor, clock: Clock, changed: Callable[[], None]) -> None:
        self.declaration = declaration
        self.unsettled: dict[int, Unsettled] = {}
        """By sequence, in the order of the stream."""
        self.letters: list[Letter] = []
        self.sessions: list[Session] = []
        self.settle: Callable[[Stored], None] = lambda _: None
        """Called with each message that is settled."""
        self._clock = clock
        self._changed = changed
        self._delivery_ids = itertools.count(1)

    @property
    def is_busy(self) -> bool:
        """Whether something runs, or could run at once."""
        if any(session.in_flight for session in self.sessions):
            return True
        return any(session.free for session in self.sessions) and next(self._next_ones(), None) is not None

    def add(self, stored: Stored) -> None:
        """Take a message in."""
        self.unsettled[stored.sequence] = Unsettled(stored)
        self.pump()

    def drop(self, sequence: int) -> None:
        """Forget a message that the stream has dropped."""
        self.unsettled.pop(sequence, None)

    def pump(self) -> None:
        """Hand out what can be handed out."""
        if self.sessions:
            for unsettled in list(self._next_ones()):
                session = max(self.sessions, key=lambda each: each.free)
                if session.free > 0 and self._is_wanted(unsettled):
                    self._hand_out(session, unsettled)
        self._changed()

    def _next_ones(self) -> Iterator[Unsettled]:
        """Give what is ready; of each key, only its oldest message."""
        held: set[str] = set()
        for unsettled in self.unsettled.values():
            key = self._order_key(unsettled.stored)
            if key is not None:
                if key in held:
                    continue
                held.add(key)
            if unsettled.is_ready:
                yield unsettled

    def _is_wanted(self, unsettled: Unsettled) -> bool:
        """Look at the tick; what doesn't match is settled unseen."""
        if not self.declaration.HasField("match_time"):
            return True
        try:
            if _matches(self.declaration.match_time, unsettled.stored.request.payload):
                return True
        except ValueError as error:
            self._bury(unsettled, f"match_time: {error}")
        else:
            self._end(unsettled)
        return False

    def _hand_out(self, session: Session, unsettled: Unsettled) -> None:
        unsettled.is_ready = False
        unsettled.attempts += 1
        timeout_s = _seconds(self.declaration, "job_timeout", JOB_TIMEOUT_S)
        deadline = Timestamp()
        deadline.FromNanoseconds(round((time.time() + timeout_s) * 1e9))
        delivery = actors_pb2.Delivery(
            delivery_id=next(self._delivery_ids),
            message=unsettled.stored.message(),
            attempt=unsettled.attempts,
            deadline=deadline,
        )
        result = actors_pb2.ListenRequest.Result(
            delivery_id=delivery.delivery_id,
            retry=actors_pb2.ListenRequest.Retry(reason=f"no answer within job_timeout ({timeout_s:g} s)"),
        )
        # of real time, as the listener's: how long a handler takes has nothing to do with a clock that is turned
        alarm = asyncio.get_running_loop().call_later(timeout_s, lambda: self.conclude(session, result))
        session.in_flight[delivery.delivery_id] = (unsettled, alarm)
        session.responses.put_nowait(actors_pb2.ListenResponse(deliveries=[delivery]))

    # ---- what becomes of it

    def conclude(self, session: Session, result: actors_pb2.ListenRequest.Result) -> None:
        """Do what a listener answered; a late answer is ignored."""
        if result.delivery_id not in session.in_flight:
            return
        unsettled, alarm = session.in_flight.pop(result.delivery_id)
        alarm.cancel()
        outcome = result.WhichOneof("outcome")
        if outcome == "ack":
            self._answer(unsettled.stored, result.ack)
            self._end(unsettled)
        elif outcome == "reject":
            self._bury(unsettled, result.reject.reason)
        else:
            after_s = result.retry.after.ToNanoseconds() / 1e9 if result.retry.HasField("after") else 0.0
            self._try_again(unsettled, result.retry.reason, after_s)
        self.pump()

    def leave(self, session: Session) -> None:
        """End a session; what it had is handed back, and no attempt counts."""
        self.sessions.remove(session)
        for unsettled, alarm in session.in_flight.values():
            alarm.cancel()
            unsettled.attempts -= 1
            unsettled.is_ready = True
        session.in_flight.clear()
        self.pump()

    def _try_again(self, unsettled: Unsettled, reason: str, after_s: float) -> None:
        policy = self.declaration.retry
        most = policy.max_attempts if policy.HasField("max_attempts") else MAX_ATTEMPTS
        attempts = unsettled.attempts
        if attempts >= most and not policy.unlimited:
            self._bury(unsettled, f"gave up after {attempts} attempts; the last one: {reason}")
            return
        delays_s = [delay.ToNanoseconds() / 1e9 for delay in policy.delays] or DELAYS_S
        wait_s = max(delays_s[min(attempts, len(delays_s)) - 1], min(after_s, LONGEST_AFTER_S))

        def be_ready() -> None:
            unsettled.is_ready = True
            self.pump()

        self._clock.after(wait_s, be_ready)

    def _bury(self, unsettled: Unsettled, reason: str) -> None:
        stored = unsettled.stored
        self.letters.append(Letter(self.declaration.name, stored, reason, unsettled.attempts))
        if stored.reply is not None and not stored.reply.done() and self.declaration.responds:
            told = f"{self.declaration.name} gave the message up, which is a dead letter now: {reason}"
            stored.reply.set_exception(Refusal("DEAD_LETTER", told, uid=stored.uid, maybe_stored=True))
        self._end(unsettled)

    def _answer(self, stored: Stored, ack: actors_pb2.ListenRequest.Ack) -> None:
        if stored.reply is not None and not stored.reply.done() and self.declaration.responds:
            headers = {"walnats-uid": stored.uid, "walnats-actor": self.declaration.name}
            answer = events_pb2.CallResponse(payload=ack.response, content_type=ack.content_type, headers=headers)
            stored.reply.set_result(answer)

    def _end(self, unsettled: Unsettled) -> None:
        self.unsettled.pop(unsettled.stored.sequence, None)
        self.settle(unsettled.stored)

    def _order_key(self, stored: Stored) -> str | None:
        match self.declaration.order_by.WhichOneof("key"):
            case "header":
                wanted = self.declaration.order_by.header.lower()
                return next((v for name, v in stored.request.headers.items() if name.lower() == wanted), None)
            case "pointer":
                return _at(self.declaration.order_by.pointer, stored.request.payload)
        return None


class Actors:
    """The `Actors` service."""

    def __init__(self, find: Callable[[str, str], Consumer], declare: Callable[[actors_pb2.Actor], Any]) -> None:
        self._find = find
        self._declare = declare
        self.served: set[tuple[str, str]] = set()
        """Actors that are served over the stream though they have a webhook."""

    async def Register(self, request: actors_pb2.RegisterActorsRequest) -> actors_pb2.RegisterActorsResponse:  # noqa: N802
        """Declare actors."""
        return actors_pb2.RegisterActorsResponse(actors=[self._declare(actor) for actor in request.actors])

    async def Listen(  # noqa: N802
        self, requests: AsyncIterator[actors_pb2.ListenRequest]
    ) -> AsyncIterator[actors_pb2.ListenResponse]:
        """Serve one actor."""
        first = await anext(requests, None)
        if first is None:
            return
        if not first.HasField("subscribe"):
            raise Refusal("INVALID_REQUEST", "the first message of a stream must be subscribe")
        name = (first.subscribe.event, first.subscribe.actor)
        consumer = self._find(*name)
        if consumer.declaration.HasField("url") and name not in self.served:
            raise Refusal("CONFLICT", f"the actor {name[1]} has a webhook; declare it without url to serve it here")
        session = Session(first.subscribe.max_in_flight or consumer.declaration.max_jobs or MAX_JOBS)
        session.responses.put_nowait(actors_pb2.ListenResponse())  # the session has begun
        consumer.sessions.append(session)
        reader = asyncio.create_task(_read(requests, consumer, session))
        try:
            consumer.pump()
            while (response := await _next(session)) is not None:
                yield response
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
            consumer.leave(session)


async def _read(requests: AsyncIterator[actors_pb2.ListenRequest], consumer: Consumer, session: Session) -> None:
    async for request in requests:
        for result in request.results.items:
            consumer.conclude(session, result)
        if request.HasField("stop"):
            session.is_leaving = True
    session.responses.put_nowait(None)


async def _next(session: Session) -> actors_pb2.ListenResponse | None:
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            return await session.responses.get()
    except TimeoutError:
        return actors_pb2.ListenResponse()


def _seconds(declaration: ProtobufMessage, name: str, default_s: float) -> float:
    return getattr(declaration, name).ToNanoseconds() / 1e9 if declaration.HasField(name) else default_s


def _matches(pattern: actors_pb2.MatchTime, payload: bytes) -> bool:
    tick = datetime.fromisoformat(payload.decode().strip().strip('"'))
    wanted: Mapping[str, Any] = {field.name: values for field, values in pattern.ListFields()}
    return all(getattr(tick, part) in values for part, values in wanted.items())


def _at(pointer: str, payload: bytes) -> str | None:
    """Give what a JSON pointer (RFC 6901) points at, as JSON; None where there is nothing."""
    try:
        value = json.loads(payload)
        for part in pointer.split("/")[1:]:
            step = part.replace("~1", "/").replace("~0", "~")
            value = value[int(step)] if isinstance(value, list) else value[step]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return json.dumps(value)
