"""Calls: an emit whose caller waits for what the first responding actor answers."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.interest import Interest
from walnatsd.broker.wire import Frame
from walnatsd.emit.emitter import BUSY_RETRY_AFTER_S, UNKNOWN, Emitter
from walnatsd.emit.request import EmitRequest, Receipt
from walnatsd.model import headers
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.cloudevents import content_type

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import Tracing

DEFAULT_TIMEOUT_S = 4.0
LONGEST_TIMEOUT_S = 3600.0
ACTOR = "walnats-actor"
UID = "walnats-uid"

_TYPES = frozenset({"content-type", "ce-datacontenttype"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first responding actor answered."""

    uid: str
    """Of the message that was emitted."""
    payload: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; `walnats-actor` says who it was, where that is known."""


class Calls:
    """Emits, and waits for the answer. Nothing stores answers: a call that has ended misses its own."""

    def __init__(
        self,
        emitter: Emitter,
        connection: Connection,
        interest: Interest,
        find_event: Callable[[str], Event | None],
        find_gate: Callable[[str], asyncio.Event | None],
        acts_here: Callable[[str], bool],
        max_waiting: int,
        metrics: Metrics,
        tracing: "Tracing | None" = None,
    ) -> None:
        """Prepare to take calls.

        Args:
            emitter: Stores the messages.
            connection: Where the answers come in.
            interest: Tells whether an event has actors.
            find_event: Finds a declared event.
            find_gate: Finds what the emits of an event must wait for, None where they need not.
            acts_here: Whether this sidecar serves an actor of an event.
            max_waiting: How many calls may wait at once.
            metrics: Where they are counted.
            tracing: Makes spans of them; None where nothing is traced.
        """
        self._emitter = emitter
        self._inbox = connection.inbox
        self._interest = interest
        self._find_event = find_event
        self._find_gate = find_gate
        self._acts_here = acts_here
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._tracing = tracing
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(self, request: EmitRequest, *, timeout_s: float, deadline_s: float | None = None) -> Answer:
        """Store a message and wait for the first answer.

        Args:
            request: The message.
            timeout_s: How long storing and waiting may take.
            deadline_s: Seconds that the caller waits at most, where it said so.

        Raises:
            Refusal: As `Emitter.emit`; INVALID_TIME, NO_ACTORS, DUPLICATE, NO_RESPONSE, DEAD_LETTER, RESPONSE_TOO_LARGE,
                STOPPING.
        """
        event = self._find_event(request.event)
        label = event.name if event is not None else UNKNOWN
        started = time.perf_counter()
        outcome = "cancelled"
        if self._tracing is not None:
            request = replace(request, within=self._tracing.request(label, request.headers, request.trace_id))
        try:
            answer = await self._admit(request, event, timeout_s, deadline_s)
        except Refusal as refusal:
            outcome = refusal.reason
            raise
        else:
            outcome = "answered"
            return answer
        finally:
            self._metrics.calls(label, outcome).inc()
            self._metrics.call_seconds(label, outcome).observe(time.perf_counter() - started)
            if request.within is not None:
                request.within.end(outcome)

    async def _admit(
        self, request: EmitRequest, event: Event | None, timeout_s: float, deadline_s: float | None
    ) -> Answer:
        if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
            what = f"the timeout of a call is more than 0 and at most {LONGEST_TIMEOUT_S:g} s, not {timeout_s:g}"
            raise Refusal(Reason.INVALID_TIME, what, uid=request.uid)
        if request.is_delayed:
            what = "a call can't be delayed, for somebody waits for the answer; emit it, or leave the delay out"
            raise Refusal(Reason.INVALID_TIME, what, uid=request.uid)
        if self._ending.done():
            raise _stopping(request.uid, maybe_stored=False)
        if self._waiting >= self._max_waiting:
            what = f"{self._waiting} calls wait for their answers already"
            raise Refusal(Reason.BUSY, what, uid=request.uid, retry_after_s=BUSY_RETRY_AFTER_S)
        wait_s = timeout_s if deadline_s is None else min(timeout_s, deadline_s)
        self._waiting += 1
        self._idle.clear()
        try:
            return await self._call(request, event, wait_s)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._idle.set()

    async def _call(self, request: EmitRequest, event: Event | None, wait_s: float) -> Answer:
        now = asyncio.get_running_loop().time
        deadline = now() + wait_s
        if event is not None:  # otherwise the emitter says what is wrong with the name
            with contextlib.suppress(TimeoutError):  # the emitter says what takes so long
                async with asyncio.timeout_at(deadline):
                    await self._see_that_somebody_acts(event, request.uid)
        losses = self._inbox.losses
        with self._inbox.expect() as (subject, answer):
            try:
                receipt = await self._emitter.emit(
                    replace(request, reply_to=subject), deadline_s=max(0.0, deadline - now())
                )
            except Refusal as refusal:
                if not answer.done():
                    raise
                return _read(answer.result(), subject, refusal.uid)  # only the PubAck was lost
            if receipt.duplicate and not receipt.retried:  # whose answer goes to who emitted it first
                what = (
                    f"a message of the uid {receipt.uid!r} is stored already, as {receipt.stream}/{receipt.sequence}; its "
                    "answer goes to who emitted it. Nothing was stored now"
                )
                raise Refusal(Reason.DUPLICATE, what, uid=receipt.uid)
            await asyncio.wait(
                (answer, self._ending),
                timeout=max(0.0, deadline - now()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer.done():
                return _read(answer.result(), subject, receipt.uid)
        if self._ending.done():
            raise _stopping(receipt.uid, maybe_stored=True)
        raise _no_response(receipt, wait_s, lost=self._inbox.losses > losses)

    async def _see_that_somebody_acts(self, event: Event, uid: str) -> None:
        """Refuse what nobody can answer: an event without actors. Whether those that there are respond, nobody knows.

        Asked before, because JetStream would remember the uid of a message that it does not store.
        """
        while (gate := self._find_gate(event.name)) is not None:
            await gate.wait()
        if self._acts_here(event.name):
            return
        try:
            count = await self._interest.count(event.stream, enough=1)
        except BrokerError:
            return  # the emitter says what is wrong with NATS
        if count == 0:
            what = (
                f"the event {event.name!r} has no actor, so nobody can answer, and nothing was stored; declare an actor with "
                "responds: true"
            )
            raise Refusal(Reason.NO_ACTORS, what, uid=uid)

    async def finish(self, within_s: float) -> None:
        """Wait until no call waits for its answer, for `within_s` seconds at most; then refuse those that do."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        if not self._ending.done():
            self._ending.set_result(None)


def _read(frame: Frame, subject: str, uid: str) -> Answer:
    """Read what came from who answers.

    Raises:
        Refusal: It is no answer, but why there is none.
    """
    header = frame.headers()
    if error := header.get(headers.ERROR):
        told = header.get(headers.ERROR_MESSAGE, "")
        actor = header.get(ACTOR, "an actor")
        if error == "TOO_LARGE":
            what = f"the message was handled by {actor}, and the answer can't be passed on: {told}"
            raise Refusal(Reason.RESPONSE_TOO_LARGE, what, uid=uid, maybe_stored=True)
        what = f"{actor} gave the message up, which is a dead letter now: {told}"
        raise Refusal(Reason.DEAD_LETTER, what, uid=uid, maybe_stored=True)
    if header.get(headers.REPLY) == subject:
        # the walnats library answers with the headers of the question, which say nothing about the answer
        return Answer(uid, frame.payload, headers.DEFAULT_CONTENT_TYPE)
    own = {
        lower: value
        for lower, value in ((name.lower(), value) for name, value in header.items())
        if lower == ACTOR or not (headers.is_reserved(lower) or lower in _TYPES)
    }
    return Answer(uid, frame.payload, content_type(header) or headers.DEFAULT_CONTENT_TYPE, own)


def _no_response(receipt: Receipt, waited_s: float, *, lost: bool) -> Refusal:
    what = (
        f"the message is stored as {receipt.stream}/{receipt.sequence}, and no actor answered within {round(waited_s, 3):g} s; it will "
        "be handled all the same. See that an actor of the event has responds: true, and how it fares (walnatsd status)"
    )
    if lost:
        what += ". The connection to NATS was lost meanwhile, so an answer may have been missed"
    return Refusal(Reason.NO_RESPONSE, what, uid=receipt.uid, maybe_stored=True)


def _stopping(uid: str, *, maybe_stored: bool) -> Refusal:
    what = "the daemon is stopping" + ("; the message is stored, and its answer will be missed" if maybe_stored else "")
    return Refusal(Reason.STOPPING, what, uid=uid, maybe_stored=maybe_stored, retry_after_s=1.0)
