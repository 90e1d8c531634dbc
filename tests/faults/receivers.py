"""The actors: an HTTP server that takes every call down in the ledger."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from faults.ledger import Ledger, Sighting

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]
"""What an actor does with a call; None: it breaks the connection off."""


async def ok(_request: web.BaseRequest) -> web.StreamResponse:
    """Handle it."""
    return web.Response(status=204)


def always(status: int, headers: dict[str, str] | None = None) -> Answer:
    """Answer every call with this status."""

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return answer


def slowly(wait_s: Callable[[], float]) -> Answer:
    """Handle it after a time that is drawn for each call."""

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(wait_s())
        return web.Response(status=204)

    return answer


async def hang_up(_request: web.BaseRequest) -> None:
    """Break the connection off without an answer."""


class Receivers:
    """All actors on one port, each on a path of its own. Can be taken down and brought up again on the port."""

    def __init__(self, ledger: Ledger) -> None:
        self.answers: dict[str, Answer] = {}
        """What actors do that don't simply handle what comes; by name."""
        self.port = 0
        self._ledger = ledger
        self._runner: web.ServerRunner | None = None

    def url(self, actor: str) -> str:
        return f"http://127.0.0.1:{self.port}/{actor}"

    async def up(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Die: calls in progress break off, and nobody listens any more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        at = time.time()
        await request.read()
        actor = request.path.removeprefix("/")
        status = 0
        try:
            answer = await self.answers.get(actor, ok)(request)
            if answer is not None:
                status = answer.status
                return answer
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        finally:
            headers = request.headers
            self._ledger.see(
                headers["walnats-uid"], actor, Sighting(at, status, int(headers["walnats-sequence"]))
            )  # also where we were cancelled: it was seen
