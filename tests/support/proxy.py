"""A TCP proxy for faults on the way to a server: silence, delay, a cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Proxy:
    """Passes bytes on, in both directions, as long as it is let."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.requests = bytearray()
        """All that clients sent."""
        self._last_word = b""
        self._forward = asyncio.Event()
        self._back = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.resume()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def pause(self) -> None:
        """Pass nothing on and read nothing, so that the peers' buffers fill up."""
        self._forward.clear()
        self._back.clear()

    def hold_answers(self) -> None:
        """Pass on only what clients send."""
        self._back.clear()

    def hold_answers_after(self, word: bytes) -> None:
        """Pass on only what clients send, from the moment that they say this."""
        self._last_word = word

    def resume(self) -> None:
        self._last_word = b""
        self._forward.set()
        self._back.set()

    async def cut(self) -> None:
        """Break all connections; new ones may come."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # one side went, or we were cut
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        ends = [
            asyncio.create_task(self._pass_on(reader, server_writer, self._forward, self.requests)),
            asyncio.create_task(self._pass_on(server_reader, writer, self._back, bytearray())),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            server_writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event, record: bytearray
    ) -> None:
        while True:
            await gate.wait()
            data = await reader.read(1 << 16)
            await gate.wait()
            if not data:
                return
            record += data
            if record is self.requests and self._last_word and self._last_word in data:
                self.hold_answers()
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def proxy(target_port: int) -> AsyncIterator[Proxy]:
    """A proxy to a port of this machine, on a port of its own."""
    started = Proxy(target_port)
    server = await asyncio.start_server(started.serve, "127.0.0.1", 0)
    started.port = server.sockets[0].getsockname()[1]
    try:
        yield started
    finally:
        server.close()
        await started.cut()
