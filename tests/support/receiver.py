"""A real HTTP server that plays actors."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def attempt(self) -> int:
        return int(self.headers["walnats-attempt"])


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an application while the body runs; gives host and port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


Answer = Callable[[Received], Awaitable[web.StreamResponse]]


async def ok(_received: Received) -> web.StreamResponse:
    return web.Response(status=204)


def answers(*statuses: int, then: int = 204, headers: dict[str, str] | None = None) -> Answer:
    """Answer with these statuses in turn, then always with the last one."""
    left = list(statuses)

    async def answer(_received: Received) -> web.StreamResponse:
        return web.Response(status=left.pop(0), headers=headers) if left else web.Response(status=then)

    return answer


class Receiver:
    """Records requests and answers as `answer` says. Can be taken down and brought up again on its port."""

    def __init__(self) -> None:
        self.answer: Answer = ok
        self.received: list[Received] = []
        self.port = 0
        self.request: web.Request | None = None
        """The latest request, for answers that are written piece by piece."""
        self.in_progress = 0
        self.most_in_progress = 0
        self._runner: web.AppRunner | None = None
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def bodies(self) -> list[bytes]:
        return [received.body for received in self.received]

    async def up(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def wait_for(self, count: int, *, timeout_s: float = 20.0) -> list[Received]:
        """Wait until that many requests have come."""
        try:
            async with asyncio.timeout(timeout_s), self._arrived:
                await self._arrived.wait_for(lambda: len(self.received) >= count)
        except TimeoutError:
            raise AssertionError(f"{len(self.received)} of {count} requests came within {timeout_s} s") from None
        return self.received

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received = Received(request.path, {name.lower(): value for name, value in request.headers.items()}, body)
        self.received.append(received)
        self.request = request
        self.in_progress += 1
        self.most_in_progress = max(self.most_in_progress, self.in_progress)
        async with self._arrived:
            self._arrived.notify_all()
        try:
            return await self.answer(received)
        finally:
            self.in_progress -= 1


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    server = Receiver()
    await server.up()
    try:
        yield server
    finally:
        await server.down()
