"""The calls that emits are sent with: one alone, over the line where that is free, or many in a batch."""

import asyncio
from collections.abc import Iterable

import grpc

from walnatsd_client._call import call, call_told
from walnatsd_client._line import Line, LineLostError, Result
from walnatsd_client._proto import events_pb2
from walnatsd_client._wire import emit_batch

_SERVICE = "/walnatsd.v1.Events"
_LONGEST_S = 86400.0
_SHORTEST_S = 0.001

Response = events_pb2.EmitResponse


class EmitCalls:
    """Sends emits that are written already, and repeats what is lost. All of it raises as `call`."""

    def __init__(self, channel: grpc.aio.Channel, calling: grpc.aio.Channel) -> None:
        """Prepare.

        Args:
            channel: Where the sidecar is.
            calling: The same, with the token.
        """
        self._channel = channel
        self._emit: grpc.aio.UnaryUnaryMultiCallable[bytes, Response] = calling.unary_unary(
            f"{_SERVICE}/Emit", response_deserializer=Response.FromString
        )
        self._emit_batch: grpc.aio.UnaryUnaryMultiCallable[bytes, events_pb2.EmitBatchResponse] = calling.unary_unary(
            f"{_SERVICE}/EmitBatch", response_deserializer=events_pb2.EmitBatchResponse.FromString
        )
        self._open_line: grpc.aio.StreamStreamMultiCallable[bytes, Result] = calling.stream_stream(
            f"{_SERVICE}/EmitStream", response_deserializer=Result.FromString
        )
        self._takes_lines = _takes_lines(channel)
        self._line: Line | None = None
        self._replaced: list[Line] = []
        self._last_timeout_s: float | None = None
        """That of the last one that went alone, and not over the line."""

    async def emit(
        self, uid: str, wire: bytes, *, timeout_s: float, asked_s: float | None = None, maybe_stored: bool = False
    ) -> Response:
        """Send one in a call of its own."""
        return await call(
            self._channel,
            self._emit,
            wire,
            timeout_s=timeout_s,
            asked_s=asked_s,
            uid=uid,
            maybe_stored=maybe_stored,
        )

    async def emit_alone(self, uid: str, wire: bytes, *, timeout_s: float) -> Response:
        """Send one that nobody is to wait for: over the line, or in a call of its own."""
        line = self._line
        if line is None or not line.is_free or line.timeout_s != timeout_s:
            answer = await self.emit(uid, wire, timeout_s=timeout_s)
            self._see_to_a_line(timeout_s)
            return answer
        now = asyncio.get_running_loop().time
        deadline = now() + timeout_s
        try:
            return await line.emit(uid, wire)
        except LineLostError as lost:
            maybe_stored = lost.maybe_stored
        return await self.emit(
            uid, wire, timeout_s=max(deadline - now(), 0), asked_s=timeout_s, maybe_stored=maybe_stored
        )

    def _see_to_a_line(self, timeout_s: float) -> None:
        """Open a line for the next ones, where two in succession would have taken it."""
        if self._takes_lines and timeout_s == self._last_timeout_s and _SHORTEST_S <= timeout_s <= _LONGEST_S:
            line = self._line
            if line is None or line.may_be_replaced or (line.is_free and line.timeout_s != timeout_s):
                if line is not None:
                    line.end()
                    self._replaced = [each for each in (*self._replaced, line) if not each.is_over]
                self._line = Line(self._open_line, timeout_s)
        self._last_timeout_s = timeout_s

    async def emit_batch(
        self, wires: Iterable[bytes], *, timeout_s: float, asked_s: float
    ) -> tuple[events_pb2.EmitBatchResponse, bool]:
        """Send many, and tell whether it took more than one try."""
        return await call_told(self._channel, self._emit_batch, emit_batch(wires), timeout_s=timeout_s, asked_s=asked_s)

    async def close(self) -> None:
        """Close the line. What was on it goes on in a call of its own."""
        self._takes_lines = False
        lines = self._replaced if self._line is None else [*self._replaced, self._line]
        for line in lines:
            await line.close()


def _takes_lines(channel: grpc.aio.Channel) -> bool:
    """Whether emits may share a stream. What intercepts calls, as OpenTelemetry's instrumentation, is to see each."""
    if not isinstance(channel, grpc.aio.Channel):
        return False  # it leads nowhere that would be far away
    return not getattr(channel, "_unary_unary_interceptors", ()) and not getattr(
        channel, "_stream_stream_interceptors", ()
    )
