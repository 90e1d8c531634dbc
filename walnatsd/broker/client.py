"""The nats library's client with remedies for its faults.

Each remedy names the fault; `tests/integration/test_client_remedies.py` shows each fault without it. The private parts
of the library that this touches are why its minor version is pinned.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any

from nats import errors
from nats.aio.client import PING_PROTO
from nats.aio.client import Client as NatsClient

from walnatsd.broker.errors import NotConnectedError
from walnatsd.broker.group_commit import GroupCommit
from walnatsd.broker.parser import FrameParser, Sink, Tally
from walnatsd.config.certificates import Certificates


class Client(NatsClient):
    """One connection. Frames go out without a task switch, and come in without a queue."""

    def __init__(self, on_loss: Callable[[], None] = lambda: None, *, certificates: Certificates | None = None) -> None:
        """Prepare a connection; `on_loss` is called at once when it breaks."""
        super().__init__()
        self._certificates = certificates
        self._on_loss = on_loss
        self._sinks: dict[bytes, Sink] = {}
        self._tallies: dict[bytes, Tally] = {}
        self._ps = FrameParser(self, self._sinks, self._tallies)
        self._sink_failure: Callable[[Exception], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._flushed: asyncio.Future[None] = self._loop.create_future()
        self._flushed.set_result(None)
        self._is_leaving = False
        self.group = GroupCommit(self._leave)
        """Of messages whose answers are waited for one by one."""

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

    async def _process_op_err(self, e: Exception) -> None:
        """Fault: a loss is told when the old socket is closed, which takes for ever if the peer hangs. Tell it at once.

        Closing waits until the peer has taken what is buffered; the buffer is dropped with the socket instead.
        """
        was_connected = self.is_connected
        await super()._process_op_err(e)
        if was_connected and not self.is_connected:
            self.drop_socket()
            self._on_loss()

    async def _connect_to_server(self, s: Any) -> None:
        """Fault: the socket of an attempt that failed stays open."""
        self.drop_socket()
        await super()._connect_to_server(s)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Fault: a PING overtakes what is queued, so that a flush proves nothing about what was sent before it."""
        self._pongs.append(future if future is not None else asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Fault: a server that offers no TLS gets the credentials in clear text, though TLS was asked for."""
        scheme = self._current_server.uri.scheme if self._current_server is not None else ""
        if initial_connection and (scheme == "tls" or ("tls" in self.options and scheme == "nats")):
            if not (info.get("tls_required") or info.get("tls_available")):
                raise errors.Error("nats: the server offers no TLS, and TLS is asked for (nats.tls or tls://)")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Fault: certificates are read once; those that were renewed meanwhile would be needed to come back."""
        return super().ssl_context if self._certificates is None else self._certificates.context

    async def revive(self) -> str:
        """Fault: a task of the client can die unnoticed. Reconnect then.

        Returns:
            What had died, empty where nothing had.
        """
        if self.is_connected:
            for name, task in (("read loop", self._reading_task), ("flusher", self._flusher_task)):
                if task is not None and task.done():
                    await self._process_op_err(errors.Error(f"nats: the {name} has died"))
                    return name
        reconnecting = self._reconnection_task
        if not self.is_connected and not self.is_closed and reconnecting is not None and reconnecting.done():
            why = None if reconnecting.cancelled() else reconnecting.exception()
            self._status = self.RECONNECTING
            self._reconnection_task = asyncio.get_running_loop().create_task(self._attempt_reconnect())
            return f"reconnecting ({why!r})"
        return ""

    @property
    def _writer(self) -> asyncio.StreamWriter | None:
        """Where bytes go; a WebSocket has none."""
        return getattr(self._transport, "_io_writer", None)

    def drop_socket(self) -> None:
        """Close the socket without waiting for anything."""
        if self._writer is not None:
            self._writer.transport.abort()

    def forget_unsent(self) -> None:
        """Fault: what was queued when the connection broke is sent after the reconnect, when its sender has given up."""
        self._pending.clear()
        self._pending_data_size = 0
        self.group.forget()

    # ---- fast paths

    def send(self, frame: bytes) -> None:
        """Queue a frame; it leaves in the next turn of the event loop, with all that is queued.

        Raises:
            NotConnectedError: There is no connection; nothing was queued.
        """
        self._queue(frame)
        self._leave()

    def send_in_group(self, frame: bytes) -> None:
        """Queue a frame; it leaves with others that come soon, where such are expected.

        Raises:
            NotConnectedError: There is no connection; nothing was queued.
        """
        self._queue(frame)
        self.group.add()

    def _queue(self, frame: bytes) -> None:
        if not self.is_connected:
            raise NotConnectedError("NATS is not connected")
        self._pending.append(frame)
        self._pending_data_size += len(frame)

    def _leave(self) -> None:
        """Have all that is queued written in the next turn of the event loop."""
        if not self._is_leaving:
            self._is_leaving = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Write what is queued, without the library's flusher: to wake it costs more than to write."""
        self._is_leaving = False
        self.group.left()
        writer = self._writer
        if writer is None:
            if self._flush_queue is not None and self._flush_queue.empty():
                self._flush_queue.put_nowait(self._flushed)
        elif self._pending and not writer.is_closing():  # of one that is, the read loop tells the loss
            frames, self._pending = self._pending, []
            self._pending_data_size = 0
            writer.write(b"".join(frames))

    async def attach(self, subject: str, sink: Sink) -> int:
        """Subscribe; frames are handed to `sink` as they are read, without a queue that could overflow."""
        subscription = await self.subscribe(subject, pending_msgs_limit=0, pending_bytes_limit=0)
        self._sinks[b"%d" % subscription._id] = sink  # noqa: SLF001
        return subscription._id  # noqa: SLF001

    def count_same(self, sid: int, tally: Tally) -> None:
        """Hand frames of a subscription that are all the same, and empty, to `tally` at once; the first to its sink still."""
        self._tallies[b"%d" % sid] = tally

    async def confirm(self) -> None:
        """Wait until the server has read all that was sent, and what it had sent before has arrived. Has no time limit.

        Fault: `flush` waits with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes together
        with the PONG; a pull that is stopped at that moment would go on for ever.
        """
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self._send_ping(pong)
        await pong

    async def detach(self, sid: int, *, flush: bool = True, flush_timeout_s: float = 2.0) -> None:
        """Unsubscribe; with `flush`, wait until what the server had sent before has arrived."""
        try:
            if self.is_connected:
                await self._send_unsubscribe(sid)
                if flush:
                    with contextlib.suppress(
                        errors.Error, TimeoutError
                    ):  # the connection broke: nothing more will come
                        async with asyncio.timeout(flush_timeout_s):
                            await self.confirm()
        finally:
            self._sinks.pop(b"%d" % sid, None)
            self._tallies.pop(b"%d" % sid, None)
            self._remove_sub(sid)

    def on_sink_failure(self, callback: Callable[[Exception], None]) -> None:
        """Say who is told of an exception in a sink; it would end the read loop."""
        self._sink_failure = callback

    def fail_sink(self, error: Exception) -> None:
        """Tell of what a sink raised; raises it where nobody wants to know."""
        if self._sink_failure is None:
            raise error
        self._sink_failure(error)
