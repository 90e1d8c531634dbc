"""The nats library's client with remedies for its faults.

Each remedy names the fault; `tests/integration/test_client_remedies.py` shows each fault without it. The private parts
of the library that this touches are why its minor version is pinned.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from nats import errors
from nats.aio.client import Client as NatsClient

from walnatsd.broker.errors import NotConnectedError
from walnatsd.broker.wire import Frame

Sink = Callable[[Frame], None]


class Client(NatsClient):
    """One connection. Frames go out without a task switch, and come in without a queue."""

    def __init__(self) -> None:
        super().__init__()
        self._sinks: dict[int, Sink] = {}
        self._sink_failure: Callable[[Exception], None] | None = None
        self._flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushed.set_result(None)

    # ---- remedies

    async def _process_pong(self) -> None:
        """Fault: a PONG for a cancelled future (flush or rtt timed out) raises, which kills the read loop (nats.py#914)."""
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)
        self._pongs_received += 1
        self._pings_outstanding = 0

    async def _process_err(self, err_msg: str) -> None:
        """Fault: nearly any -ERR closes the client for good; a reconnect is right (nats.py#1019, #193)."""
        if "permissions violation" in err_msg:
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(errors.Error(f"nats: {err_msg.strip(chr(39))}"))

    async def revive(self) -> bool:
        """Fault: the read loop or the flusher can die while the client still looks connected. Reconnect then.

        Returns:
            Whether that was the case.
        """
        tasks = (self._reading_task, self._flusher_task)
        if not self.is_connected or not any(task is not None and task.done() for task in tasks):
            return False
        await self._process_op_err(errors.Error("nats: a task of the connection has died"))
        return True

    def forget_unsent(self) -> None:
        """Fault: what was queued when the connection broke is sent after the reconnect, when its sender has given up."""
        self._pending.clear()
        self._pending_data_size = 0

    # ---- fast paths

    def send(self, frame: bytes) -> None:
        """Queue a frame; it leaves with others in this turn of the event loop.

        Raises:
            NotConnectedError: There is no connection; nothing was queued.
        """
        queue = self._flush_queue
        if not self.is_connected or queue is None:
            raise NotConnectedError("NATS is not connected")
        self._pending.append(frame)
        self._pending_data_size += len(frame)
        if queue.empty():
            queue.put_nowait(self._flushed)

    async def attach(self, subject: str, sink: Sink) -> int:
        """Subscribe; frames are handed to `sink` as they are read, without a queue that could overflow."""
        subscription = await self.subscribe(subject, pending_msgs_limit=0, pending_bytes_limit=0)
        self._sinks[subscription._id] = sink  # noqa: SLF001
        return subscription._id  # noqa: SLF001

    async def detach(self, sid: int, *, flush_timeout_s: float = 2.0) -> None:
        """Unsubscribe, and wait until what the server had sent before has arrived.

        Fault: `flush` waits with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes together
        with the PONG; a pull that is stopped at that moment would go on for ever.
        """
        if self.is_connected:
            await self._send_unsubscribe(sid)
            pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            with contextlib.suppress(errors.Error, TimeoutError):  # the connection broke: nothing more will come on it
                async with asyncio.timeout(flush_timeout_s):
                    await self._send_ping(pong)
                    await pong
        self._sinks.pop(sid, None)
        self._remove_sub(sid)

    def on_sink_failure(self, callback: Callable[[Exception], None]) -> None:
        """Say who is told of an exception in a sink; it would end the read loop."""
        self._sink_failure = callback

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        sink = self._sinks.get(sid)
        if sink is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            sink(Frame(subject.decode(), reply.decode(), data, headers or b""))
        except Exception as error:
            if self._sink_failure is None:
                raise
            self._sink_failure(error)
