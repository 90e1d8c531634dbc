"""A TCP proxy for faults on the way to a server: silence, delay, a cut, a peer that is gone without a word."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

WITHIN_BYTES = 48
"""How far into a message a connection is broken off: after its first line's beginning, before its end."""


class Proxy:
    """Passes bytes on, in both directions, as long as it is let."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.requests = bytearray()
        """All that clients sent."""
        self.latency_s = 0.0
        """How long bytes are on their way, each way."""
        self.records = True
        """Whether `requests` is kept."""
        self._last_word = b""
        self._cut_words: tuple[bytes, ...] = ()
        self._forsaken: set[asyncio.Task[None]] = set()
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

    def cut_within(self, *words: bytes) -> None:
        """Break a connection off in the middle of the next message that begins with one of these, whoever says it."""
        self._cut_words = words

    @property
    def is_to_cut(self) -> bool:
        """Whether the message to break off in has not come yet."""
        return bool(self._cut_words)

    def forsake(self) -> None:
        """Leave the connections half-open: what is written is taken and goes nowhere, and nobody is told. New ones work."""
        self._forsaken |= self._connections

    @property
    def forsaken(self) -> int:
        """How many half-open connections nobody has given up yet."""
        return len(self._forsaken)

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
            self._forsaken.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        connection = asyncio.current_task()
        assert connection is not None

        def is_forsaken() -> bool:
            return connection in self._forsaken

        ends = [
            asyncio.create_task(self._pass_on(reader, server_writer, self._forward, is_forsaken, self.requests)),
            asyncio.create_task(self._pass_on(server_reader, writer, self._back, is_forsaken)),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            server_writer.transport.abort()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
        is_forsaken: Callable[[], bool],
        record: bytearray | None = None,
    ) -> None:
        while True:
            await gate.wait()
            data = await reader.read(1 << 16)
            await gate.wait()
            if not data:
                return
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if is_forsaken():
                continue
            if record is not None:
                if self.records:
                    record += data
                if self._last_word and self._last_word in data:
                    self.hold_answers()
            if cut_at := self._cut_in(data):
                self._cut_words = ()
                writer.write(data[:cut_at])
                await writer.drain()
                return
            writer.write(data)
            await writer.drain()

    def _cut_in(self, data: bytes) -> int:
        """Where to break off: some bytes into a message that begins in here; 0 where none does."""
        begins = [at for word in self._cut_words if (at := data.find(word)) >= 0]
        return min(min(begins) + WITHIN_BYTES, len(data) - 1) if begins else 0


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
