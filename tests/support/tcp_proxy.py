"""A TCP proxy that can fall silent: nothing passes, and nobody is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class TcpProxy:
    """Passes bytes on between clients and a port of this machine, as long as it is let."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.accepted = 0
        """How many connections have come."""
        self._target_port = target_port
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fall_silent(self) -> None:
        """Pass nothing on, on connections that there are and on those that come."""
        self._passing.clear()

    async def recover(self) -> None:
        """Drop the connections that there are; those that come work again."""
        await self.cut()
        self._passing.set()

    async def cut(self) -> None:
        """Break all connections."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                async with asyncio.TaskGroup() as tasks:
                    ways = [tasks.create_task(self._pass(reader, back)), tasks.create_task(self._pass(there, writer))]
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    for way in ways:
                        way.cancel()
            back.transport.abort()
        except OSError:
            pass  # nobody is there
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()


@contextlib.asynccontextmanager
async def tcp_proxy(target: str) -> AsyncIterator[TcpProxy]:
    """A proxy to `127.0.0.1:PORT`, on a port of its own."""
    proxy = TcpProxy(int(target.rpartition(":")[2]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.cut()
