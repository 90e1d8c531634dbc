"""A bare HTTP receiver that is not the bottleneck."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import cast

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sink(asyncio.Protocol):
    """Answers 204 to every POST as fast as Python can."""

    def __init__(self, received: Callable[[bytes, float], None]) -> None:
        """Call `received` with body and time (`time.monotonic()`) of every request."""
        self._received = received
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 : head.find(b"\r\n", at) if b"\r\n" in head[at:] else None]) if at >= 0 else 0
            whole = end + 4 + size
            if len(self._buffer) < whole:
                return
            self._received(self._buffer[end + 4 : whole], time.monotonic())
            self._buffer = self._buffer[whole:]
            self._transport.write(NO_CONTENT)


class Arrivals:
    """Counts what arrives and tells how fast it came."""

    def __init__(self, *, warm_up: float = 0.1) -> None:
        """Leave the first share `warm_up` out of the rate."""
        self._warm_up = warm_up
        self.begin(0)

    def begin(self, expected: int) -> None:
        """Count from zero; `done` is set when as many have come."""
        self._expected = expected
        self._from = int(expected * self._warm_up)
        self._count = 0
        self._started = self._ended = 0.0
        self.done = asyncio.Event()

    def note(self, count: int, at: float) -> None:
        before = self._count
        self._count += count
        if not self._started and self._count > self._from:
            self._started, self._from = at, self._count
        if before < self._expected <= self._count:
            self._ended = at
            self.done.set()

    @property
    def count(self) -> int:
        return self._count

    @property
    def per_s(self) -> float:
        return (self._expected - self._from) / (self._ended - self._started)


@contextlib.asynccontextmanager
async def sink(received: Callable[[bytes, float], None]) -> AsyncIterator[str]:
    """Run a sink; gives its URL."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(received), "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
