"""Connections over HTTP: how many there may be, and how long a caller may take.

aiohttp waits for ever for a request that trickles in, and for an answer that is not read. One task looks at all connections
of an address once a second instead; a request costs nothing for it but a note of when something came.
"""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from aiohttp import web

from walnatsd.api.errors import TABLE
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.door import refused
from walnatsd.servers.shortcut import SHORTCUT

LIMITS_S = {"head": 15.0, "body": 60.0, "unread": 30.0}
"""How long a caller may take from connecting, or from the first byte of another request, to the end of its head; from there to
the end of the body; and how long it may leave an answer unread without taking any of it."""
TLS_HANDSHAKE_TIMEOUT_S = 10.0
TLS_SHUTDOWN_TIMEOUT_S = 5.0
LOOK_S = 1.0
MAX_CONNECTIONS = 4096
"""Connections that an address takes at once; and no more than a quarter of the files that the process may open."""


class Protocol(web.RequestHandler):
    """One connection. Tells in problem details what is no good HTTP; aiohttp does it in plain text."""

    __slots__ = ("_heard_at", "_stage", "_stage_since")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or break it off where there are too many."""
        self._heard_at = self._loop.time()
        self._stage: tuple[str, float] | None = None
        self._stage_since = self._heard_at
        super().connection_made(transport)
        assert isinstance(self._manager, Server)
        self._manager.count_in(self)

    def data_received(self, data: bytes) -> None:
        """Note when something came, for `why_too_slow`."""
        self._heard_at = self._loop.time()
        super().data_received(data)

    def why_too_slow(self, now: float) -> str | None:
        """Say which time limit of `LIMITS_S` is over; None where there is none. To be asked every now and then."""
        stage = self._waits_for()
        if stage != self._stage:
            self._stage, self._stage_since = stage, now
        return stage[0] if stage is not None and now - self._stage_since >= LIMITS_S[stage[0]] else None

    def _waits_for(self) -> tuple[str, float] | None:
        """Say what the caller has yet to do, and a number that changes when it has come further."""
        if self.transport is None:
            return None
        if unread := self.transport.get_write_buffer_size():
            return "unread", unread
        if (request := self._current_request) is not None:
            return None if request.content.is_eof() else ("body", self._request_count)
        answered_at = self._next_keepalive_close_time - self._keepalive_timeout
        if self._waiter is not None and (not self._request_count or self._heard_at > answered_at):
            return "head", self._request_count
        return None

    def break_off(self) -> None:
        """End the connection without waiting for anything."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what can't be parsed. Raises ConnectionError where an answer has begun already."""
        plain = super().handle_error(request, status, exc, message)
        if status != TABLE[Reason.INVALID_REQUEST].http:
            return plain
        why = " ".join((message or str(exc)).removeprefix("400, message:").split()).rstrip("^ ")
        answer = refused(Refusal(Reason.INVALID_REQUEST, f"this is no good HTTP: {why[:500]}"))
        answer.force_close()
        return answer


class Server(web.Server):
    """The connections of one address."""

    cut: Callable[[str], None]
    """Told why a connection was broken off: too_many, head, body or unread."""

    def __call__(self) -> web.RequestHandler:
        return Protocol(self, loop=self._loop, **self._kwargs)

    def count_in(self, connection: Protocol) -> None:
        """Break a new connection off where there are too many."""
        if len(self._connections) > most_connections():
            self.cut("too_many")
            connection.break_off()

    async def watch(self) -> None:
        """Break off who is too slow, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._loop.time()
            for connection in self.connections:
                assert isinstance(connection, Protocol)
                if why := connection.why_too_slow(now):
                    self.cut(why)
                    connection.break_off()


class Runner(web.AppRunner):
    """Runs an application on connections of the kind above."""

    def __init__(self, app: web.Application, cut: Callable[[str], None], **options: Any) -> None:
        super().__init__(app, **options)
        self._cut = cut

    @property
    def server(self) -> Server:
        """The connections. To be asked after `setup`."""
        assert isinstance(self._server, Server)
        return self._server

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        options = plain._kwargs  # noqa: SLF001 - as the application made them
        handler: Any = plain.request_handler  # of requests as the factory makes them
        if (shortcut := self.app.get(SHORTCUT)) is not None:
            handler = shortcut.before(handler)
        server = Server(handler, request_factory=plain.request_factory, **options)
        server.cut = self._cut
        return server


class Site(web.SockSite):
    """Listens, and gives up on callers that do not come through with TLS; aiohttp waits for a minute."""

    async def start(self) -> None:
        """Listen."""
        await super(web.SockSite, self).start()
        assert isinstance(self._runner, Runner)
        tls = self._ssl_context is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._runner.server,
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S if tls else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S if tls else None,
        )


def most_connections() -> int:
    """Say how many connections an address takes at once."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if open_files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, open_files // 4)
