"""The short way to calls that come all the time, past what aiohttp does anew for each request.

aiohttp matches the path against patterns, wraps the handler into the middlewares and writes an answer header by header; for
an emit that takes longer than all that walnatsd does for it. So the route of a path that was asked for before is
remembered, and an answer of a connection that stays open leaves as it stands. Everything else goes aiohttp's way, and
callers see no difference.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Door = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

MOST_PATHS = 1024
"""Paths whose routes an application remembers. Callers choose them, so there must be an end."""


class Shortcut:
    """Finds the handlers of an application's frequent calls without a search."""

    def __init__(self, door: Door) -> None:
        """Begin with nothing; `door` is the application's only middleware."""
        self._door = door
        self._routes: set[web.AbstractRoute] = set()
        self._known: dict[tuple[str, str], web.UrlMappingMatchInfo] = {}

    def note(self, route: web.AbstractRoute) -> None:
        """Note a route that is asked for all the time."""
        self._routes.add(route)

    @property
    def remembered(self) -> int:
        """How many paths are known."""
        return len(self._known)

    def before(self, search: Handler) -> Handler:
        """Give what handles a request by a route that is remembered, else by `search`, which is the application's way."""

        async def handle(request: web.Request) -> web.StreamResponse:
            key = request.method, request.rel_url.raw_path
            match = self._known.get(key)
            if match is not None and hdrs.EXPECT not in request.headers:
                request._match_info = match  # noqa: SLF001 - as the application does it
                return await self._door(request, match.handler)
            answer = await search(request)
            if request.match_info.route in self._routes:
                if len(self._known) >= MOST_PATHS:
                    self._known.clear()
                self._known[key] = request.match_info
            return answer

        return handle


SHORTCUT = web.AppKey("SHORTCUT", Shortcut)


class Told(web.StreamResponse):
    """An answer in one piece on a connection that stays open."""

    def __init__(self, status: int, body: bytes) -> None:
        """Prepare; the body is JSON."""
        super().__init__(status=status)
        self._told = body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it.

        Raises:
            ConnectionError: The caller has gone.
        """
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller has gone")
        head = f"{_head(self.status)}Content-Length: {len(self._told)}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        transport.write(head.encode() + self._told)
        self._keep_alive = self._eof_sent = True
        await request.writer.drain()  # waits for a caller who asks and does not read
        return None


@lru_cache(maxsize=16)
def _head(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\nServer: {SERVER_SOFTWARE}\r\n"


def tell(request: web.Request, body: bytes, *, status: int) -> web.StreamResponse:
    """Answer a frequent call in JSON."""
    if request.version == HttpVersion11 and request.keep_alive:
        return Told(status, body)
    return web.Response(status=status, body=body, content_type="application/json")
