"""Actors over the gRPC stream: one session after another, for ever."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, Never

import grpc

from walnatsd_client._actor import Actor
from walnatsd_client._declarations import duration
from walnatsd_client._delivery import Delivery, Reject, Retry
from walnatsd_client._errors import SIDECAR_UNAVAILABLE, UnavailableError, UnknownActorError, WalnatsdError, answer_of
from walnatsd_client._handling import Done, handle
from walnatsd_client._proto import actors_pb2, actors_pb2_grpc
from walnatsd_client._registrations import Registrations

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
SILENCE_S = 20.0
"""The sidecar sends a heartbeat every 5 s, so after this long it is gone, whatever the connection pretends."""
LEAVE_TIMEOUT_S = 5.0
"""How long the sidecar may take to read the last results."""
GATHERED_BYTES = 1 << 20
"""Results are gathered in one message until they are so large; the sidecar takes 68 MiB."""
RESULT_BYTES = 32
"""What a result has beside its response or reason, roughly."""
SHOWN_CHARACTERS = 1024
"""Of a reason; the sidecar shows no more."""

_COME_AGAIN = frozenset({"REPLACED", "NOT_READING"})
"""Reasons of the sidecar to end a session that another one may follow."""
# How gRPC says that the connection broke, or that the sidecar is going down.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)

_logger = logging.getLogger("walnatsd_client")


async def listen_for_ever(
    stub: "actors_pb2_grpc.ActorsAsyncStub", actor: Actor[Any], registrations: Registrations, *, max_in_flight: int
) -> Never:
    """Serve an actor in session after session, until cancelled.

    Raises:
        WalnatsdError: The sidecar refuses the session, and coming again would not help.
    """
    pause_s = FIRST_PAUSE_S
    served = False
    while True:
        seen = registrations.count
        session = _Session(stub, actor, max_in_flight)
        error = await session.run()
        if session.began:
            served, pause_s = True, FIRST_PAUSE_S
        if isinstance(error, UnknownActorError):
            # A restarted sidecar has forgotten it. Who served it before waits for whoever registers it again.
            if not await _register_again(registrations, actor, seen) and not served:
                raise error
        elif session.is_closed or (not isinstance(error, UnavailableError) and error.reason not in _COME_AGAIN):
            raise error
        _logger.warning("actor %s: the session with the sidecar ended, coming again: %s", actor.name, error)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def side_by_side(listening: Iterable[Coroutine[Any, Any, Never]]) -> Never:
    """Run until one fails or we are cancelled, then cancel the others and wait for them.

    A task group would pass the first cancellation on, but not the second one, which ends them at once.
    """
    tasks = pending = {asyncio.create_task(each) for each in listening}
    cancelled: asyncio.CancelledError | None = None
    ending = False
    while pending:
        try:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError as error:
            cancelled, ending = error, False
            pending = {task for task in pending if not task.done()}
        if not ending:
            ending = True
            for task in pending:
                task.cancel()
    if cancelled is not None:
        raise cancelled
    raise next(failure for task in tasks if not task.cancelled() and (failure := task.exception()))


async def _register_again(registrations: Registrations, actor: Actor[Any], seen: int) -> bool:
    try:
        return await registrations.again(actor, seen=seen)
    except UnavailableError as error:
        _logger.warning("can't register again yet: %s", error)
        return True


class _Session:
    """One stream, from the subscription to its end."""

    def __init__(self, stub: "actors_pb2_grpc.ActorsAsyncStub", actor: Actor[Any], max_in_flight: int) -> None:
        self.began = False
        """Whether the sidecar took the subscription."""
        self.is_closed = False
        """The connection was closed here, so that there is nothing to come again to."""
        self._stub = stub
        self._actor = actor
        self._max_in_flight = max_in_flight
        self._leaving = False
        """Nothing more is started."""
        self._running: dict[asyncio.Task[None], float] = {}
        """Handlers, and until when each may take, on the clock of the event loop."""
        self._late: set[asyncio.Task[None]] = set()
        """Those of them that took too long and were cancelled for it."""
        self._expiry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._results: deque[tuple[int, Done | Reject | Retry]] = deque()
        self._to_write = asyncio.Event()

    async def run(self) -> WalnatsdError:
        """Take deliveries and answer them until the session ends; tells why it did.

        When cancelled, nothing more is taken, and what runs is finished and answered first. When cancelled again, or
        when the session ends otherwise, what runs is cancelled: the sidecar has handed it to another by then.
        """
        try:
            self._call = self._stub.Listen(wait_for_ready=True)
        except grpc.aio.UsageError:
            return self._closed_here()
        async with asyncio.TaskGroup() as self._tasks:
            reader = self._tasks.create_task(self._read(), name=f"{self._actor.name}/read")
            writer = self._tasks.create_task(self._write(), name=f"{self._actor.name}/write")
            try:
                await asyncio.wait([reader])
            except asyncio.CancelledError:
                if self.began:
                    await self._leave(reader, writer)
                raise
            finally:
                self._call.cancel()
                if self._expiry is not None:
                    self._expiry.cancel()
            for task in (writer, *self._running):
                task.cancel()
        return reader.result()

    def _closed_here(self) -> WalnatsdError:
        self.is_closed = True
        return _lost("the connection was closed here")

    async def _leave(self, reader: "asyncio.Task[WalnatsdError]", writer: asyncio.Task[None]) -> None:
        """Finish what runs, and see that the sidecar gets to know."""
        self._leaving = True
        self._to_write.set()
        while self._running and not reader.done():
            await asyncio.wait([reader, *self._running], return_when=asyncio.FIRST_COMPLETED)
        self._to_write.set()
        await asyncio.wait([reader, writer], timeout=LEAVE_TIMEOUT_S)

    # ---- deliveries

    async def _read(self) -> WalnatsdError:
        """Start a task for every delivery until the stream ends; tells why it did."""
        try:
            await self._take_deliveries()
        except TimeoutError:
            return _lost(f"nothing heard for {SILENCE_S:g} s")
        except grpc.aio.AioRpcError as error:
            return ending_of(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._closed_here()
        return _lost("the sidecar closed the stream")

    async def _take_deliveries(self) -> None:
        while True:
            async with asyncio.timeout(SILENCE_S):
                response = await self._call.read()
            if not isinstance(response, actors_pb2.ListenResponse):
                return  # the end
            self.began = True
            if not self._leaving:
                now_ahead_s = time.time() - self._loop.time()
                for delivery in response.deliveries:
                    deadline = delivery.deadline
                    self._start(delivery, deadline.seconds + deadline.nanos / 1e9 - now_ahead_s)

    def _start(self, delivery: actors_pb2.Delivery, until: float) -> None:
        """Handle a delivery in a task of its own, until a time on the loop's clock."""
        if until <= self._loop.time():
            _logger.error("actor %s: a delivery came after its deadline; is the clock right here?", self._actor.name)
            return
        task = self._tasks.create_task(self._carry(delivery))
        self._running[task] = until
        task.add_done_callback(self._forget)
        if self._expiry is None or until < self._expiry.when():
            self._expire_at(until)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._late.discard(task)

    def _expire_at(self, until: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_at(until, self._expire)

    def _expire(self) -> None:
        """Cancel what takes too long: one timer for all, for one for each would cost more than most handlers do."""
        now = self._loop.time()
        for task, until in self._running.items():
            if until <= now and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._expiry = None
        if (next_at := min((until for until in self._running.values() if until > now), default=None)) is not None:
            self._expire_at(next_at)

    async def _carry(self, delivery: actors_pb2.Delivery) -> None:
        """Handle one delivery and queue its result, within its time."""
        facts = _facts(self._actor, delivery)
        try:
            outcome = await handle(self._actor, facts, delivery.message.payload)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task not in self._late or task.uncancel():
                raise  # the session ends, too
            # The sidecar gives this attempt up at the same moment, and another one may begin any time.
            _logger.error(  # noqa: TRY400 - where it was cancelled is of no interest
                "actor %s was cancelled, for it was not done within job_timeout: event %s, uid %s, sequence %d, attempt %d",
                facts.actor,
                facts.event,
                facts.uid,
                facts.sequence,
                facts.attempt,
            )
            return
        self._results.append((delivery.delivery_id, outcome))
        self._to_write.set()

    # ---- results

    async def _write(self) -> None:
        """Subscribe, then send all results there are in one message whenever there are some."""
        subscribe = actors_pb2.ListenRequest.Subscribe(
            event=self._actor.event.name, actor=self._actor.name, max_in_flight=self._max_in_flight
        )
        try:
            await self._call.write(actors_pb2.ListenRequest(subscribe=subscribe))
            told = False
            while not (self._leaving and told and not self._running and not self._results):
                await self._to_write.wait()
                self._to_write.clear()
                if self._leaving and not told:
                    told = True
                    await self._call.write(actors_pb2.ListenRequest(stop=actors_pb2.ListenRequest.Stop()))
                while self._results:
                    await self._call.write(self._gather())
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            return  # the stream has ended; the reader knows why

    def _gather(self) -> actors_pb2.ListenRequest:
        request, size = actors_pb2.ListenRequest(), 0
        while self._results and size < GATHERED_BYTES:
            delivery_id, outcome = self._results.popleft()
            _fill(request.results.items.add(), delivery_id, outcome)
            size += RESULT_BYTES + len(outcome.response or b"" if isinstance(outcome, Done) else outcome.reason)
        return request


def _facts(actor: Actor[Any], delivery: actors_pb2.Delivery) -> Delivery:
    message = delivery.message
    headers = dict(message.headers.items()) if message.headers else {}
    headers["content-type"] = message.content_type
    return Delivery(
        event=actor.event.name,
        actor=actor.name,
        uid=message.uid,
        sequence=message.sequence,
        attempt=delivery.attempt,
        trace_id=message.trace_id,
        headers=headers,
    )


def _fill(result: actors_pb2.ListenRequest.Result, delivery_id: int, outcome: Done | Reject | Retry) -> None:
    """Write a result in place."""
    result.delivery_id = delivery_id
    match outcome:
        case Done():
            result.ack.SetInParent()
            if outcome.response is not None:
                result.ack.response = outcome.response
                result.ack.content_type = outcome.content_type
        case Reject() as reject:
            result.reject.SetInParent()
            result.reject.reason = _text(reject.reason)
        case Retry() as retry:
            result.retry.SetInParent()
            result.retry.reason = _text(retry.reason)
            if retry.after is not None:
                result.retry.after.CopyFrom(duration(retry.after))


def _text(reason: str) -> str:
    """What protobuf takes as a string, bounded: no halves of surrogate pairs."""
    return reason[:SHOWN_CHARACTERS].encode(errors="replace").decode()


def ending_of(error: grpc.aio.AioRpcError) -> WalnatsdError:
    """Say why a stream ended."""
    if answer := answer_of(error):
        return answer
    if error.code() in _LOST:
        return _lost(error.details() or "the connection broke")
    return WalnatsdError(error.details() or "the stream broke", error.code().name)


def _lost(why: str) -> WalnatsdError:
    return UnavailableError(why, SIDECAR_UNAVAILABLE)
