"""A line to the sidecar: one `EmitStream` that stays open, for emits that come one at a time.

A message each way on a stream that is there costs both sides about half of a call of its own. There is never more than one
emit on the line, so none waits behind another; and the line is given up with an emit that is cancelled or out of time, which
the sidecar then drops, as it drops one whose call is cancelled.
"""

import asyncio
from contextvars import Context

import grpc

from walnatsd_client._errors import SIDECAR_UNAVAILABLE, UnavailableError, answer_of, error_of
from walnatsd_client._proto import events_pb2

TIMEOUT = "walnats-timeout"
"""Metadata by which the sidecar is told how long a caller waits for each result. One that knows it sends it back at once."""
OPEN_WITHIN_S = 5.0
OPEN_AGAIN_S = 5.0
"""A line that could not be opened, or broke, is not opened again before this."""
IDLE_S = 60.0
"""A line that nobody used for this long, or for up to twice as long, is closed."""

Result = events_pb2.EmitResult
Opening = grpc.aio.StreamStreamMultiCallable[bytes, Result]
Stream = grpc.aio.StreamStreamCall[bytes, Result]


class LineLostError(Exception):
    """The line broke with an emit on it, or before.

    Attributes:
        maybe_stored: The emit may have reached the sidecar.
    """

    def __init__(self, *, maybe_stored: bool) -> None:
        super().__init__("the line to the sidecar broke")
        self.maybe_stored = maybe_stored


class Line:
    """A line for emits of one timeout."""

    def __init__(self, opening: Opening, timeout_s: float) -> None:
        """Begin to open it, in the background.

        Args:
            opening: Opens the stream.
            timeout_s: How long the caller of each emit waits.
        """
        self.timeout_s = timeout_s
        self.is_free = False
        """It is open, and no emit is on it."""
        self._opening = opening
        self._loop = asyncio.get_running_loop()
        self._stream: Stream | None = None
        self._answer: asyncio.Future[Result] | None = None
        self._was_used = True
        self._idle_timer: asyncio.TimerHandle | None = None
        self._ended_at: float | None = None
        # in no context of whoever emits just now: it is nobody's
        self._keeper = self._loop.create_task(self._keep(), name="emit/line", context=Context())

    @property
    def may_be_replaced(self) -> bool:
        """Whether it ended a while ago."""
        return self._ended_at is not None and self._loop.time() >= self._ended_at + OPEN_AGAIN_S

    async def emit(self, uid: str, wire: bytes) -> events_pb2.EmitResponse:
        """Emit one message over a line that is free.

        Raises:
            LineLostError: Try in another way.
            WalnatsdError: The sidecar refused, or there was no answer in time.
        """
        assert self._stream is not None
        self.is_free = False
        self._was_used = True
        answer = self._answer = self._loop.create_future()
        alarm = self._loop.call_later(self.timeout_s, self._expire, answer, uid)
        try:
            await self._write(self._stream, wire)
            result = await answer
        except asyncio.CancelledError:
            if self._answer is answer:  # else it was there already, and the line is free, or somebody else's
                answer.cancel()
                self.end()
            raise
        finally:
            alarm.cancel()
        if result.HasField("ok"):
            receipt: events_pb2.EmitResponse = result.ok
            return receipt
        error = error_of(result.error)
        error.uid = error.uid or uid
        raise error

    async def _write(self, stream: Stream, wire: bytes) -> None:
        try:
            await stream.write(wire)
        except asyncio.InvalidStateError:  # it had ended, and nothing was written
            self._answer = None
            raise LineLostError(maybe_stored=False) from None
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):
            pass  # the keeper learns why
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # somebody cancelled us, not the stream

    def _expire(self, answer: asyncio.Future[Result], uid: str) -> None:
        if not answer.done():
            told = f"no answer from the sidecar within {self.timeout_s:g} s"
            answer.set_exception(UnavailableError(told, SIDECAR_UNAVAILABLE, uid=uid, maybe_stored=True))
            self.end()

    async def _keep(self) -> None:
        """Open the stream and hand out what comes, until it ends."""
        maybe_stored = True
        try:
            stream = self._stream = self._opening(metadata=((TIMEOUT, f"{self.timeout_s:.6f}"),))
            async with asyncio.timeout(OPEN_WITHIN_S):
                metadata = await stream.initial_metadata()
            if not any(key == TIMEOUT for key, _ in metadata or ()):
                return
            self.is_free = True
            self._idle_timer = self._loop.call_later(IDLE_S, self._end_if_idle)
            while isinstance(result := await stream.read(), Result):
                answer, self._answer = self._answer, None
                if answer is None:
                    return  # nobody asked
                self.is_free = self._ended_at is None
                if not answer.done():
                    answer.set_result(result)
        except grpc.aio.AioRpcError as error:
            refusal = answer_of(error)
            maybe_stored = refusal is None or refusal.reason != "STOPPING"  # that has results for all it took in
        except (TimeoutError, grpc.aio.UsageError):
            pass
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
        finally:
            self.end()
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(LineLostError(maybe_stored=maybe_stored))

    def _end_if_idle(self) -> None:
        if not self._was_used and self._answer is None:
            self.end()
        else:
            self._was_used = False
            self._idle_timer = self._loop.call_later(IDLE_S, self._end_if_idle)

    def end(self) -> None:
        """Give it up; whoever waits for an answer gets a `LineLostError`."""
        self.is_free = False
        if self._ended_at is None:
            self._ended_at = self._loop.time()
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            if self._stream is not None:
                self._stream.cancel()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self._keeper.done()

    async def close(self) -> None:
        """End it, and leave nothing behind."""
        self.end()
        self._keeper.cancel()
        await asyncio.wait((self._keeper,))
