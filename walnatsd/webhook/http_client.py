"""The connections of all webhooks: opened when there is no idle one, and kept for the next request.

A client of our own because calling webhooks is most of what a sidecar does: docs/adr/0032. It does what a webhook needs
and nothing else. It never follows a redirect, keeps no cookie, decompresses nothing, and sends no request twice.
"""

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator
from typing import NamedTuple

from yarl import URL

from walnatsd import __version__
from walnatsd.webhook.dialer import Dialer, Origin
from walnatsd.webhook.errors import NotConnectedError
from walnatsd.webhook.http_connection import Answer, HttpConnection

KEEPALIVE_S = 4.5
"""Below the 5 s after which common servers (uvicorn, Node) close an idle connection: closing first avoids the race."""
SWEEP_INTERVAL_S = 0.5
USER_AGENT = f"walnatsd/{__version__}"


_Key = tuple[Origin, ssl.SSLContext | None]


class HttpUrl(NamedTuple):
    """A URL as requests have it."""

    origin: Origin
    authority: str
    """What `Host` says."""
    target: str
    """What the request line says: path and query."""


def parsed(url: str) -> HttpUrl:
    """Read a URL of http or https.

    Raises:
        ValueError: It can't be called, in words.
    """
    parts = URL(url)
    host, port = parts.raw_host, parts.port
    if not host or port is None:
        raise ValueError(f"{url!r} has no host")
    if host.endswith(".."):
        host = host.rstrip(".") + "."
    return HttpUrl(Origin(parts.scheme == "https", host, port), parts.host_port_subcomponent or host, parts.raw_path_qs)


class HttpClient:
    """Makes requests. The slots of the sidecar bound how many at once, so there is no limit here."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = Dialer()
        self._idle: dict[_Key, list[HttpConnection]] = {}
        """Those that were used last are last."""
        self._sweeping: asyncio.TimerHandle | None = None

    async def request(
        self,
        origin: Origin,
        tls: ssl.SSLContext | None,
        head: bytes,
        body: bytes,
        *,
        connect_s: float,
        timeout_s: float,
        limit: int,
        fresh: bool = False,
    ) -> Answer:
        """Send a request, once, and read its answer.

        Args:
            origin: Where to.
            tls: The certificates as they are now; None: the system's. What was opened with others is not used.
            head: The head, with the empty line at its end.
            body: As long as the head says.
            connect_s: How long it may take to resolve the name, connect, and agree on TLS.
            timeout_s: How long all of it may take. An answer whose head came in time is cut short instead.
            limit: So many bytes of the answer's body are read; where it has more, the connection is closed.
            fresh: On a connection of its own, closed after.

        Raises:
            NotConnectedError: There is no connection in time.
            BrokenError: The connection ended before an answer came.
            NotHttpError: What came is none.
            TimeoutError: No answer came in time.
            ValueError: Nothing can be called there.
        """
        key = (origin, tls)
        began = self._loop.time()
        connection = None if fresh else self._take(key, began)
        if connection is None:
            connection = await self._connect(origin, tls, connect_s)
            timeout_s -= self._loop.time() - began
        answer = await connection.exchange(head, body, limit=limit, timeout_s=timeout_s)
        if fresh:
            connection.abort()
        elif connection.usable:
            self._keep(key, connection)
        return answer

    async def close(self) -> None:
        """Close the idle connections; those in use are closed by who cancels their use."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._dialer.close()
        for connection in itertools.chain.from_iterable(self._idle.values()):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop closes sockets in its next turn

    async def _connect(self, origin: Origin, tls: ssl.SSLContext | None, within_s: float) -> HttpConnection:
        try:
            async with asyncio.timeout(within_s):
                return await self._dialer.dial(origin, tls)
        except TimeoutError:
            raise NotConnectedError(f"{origin}: no connection within {within_s:g} s") from None

    def _take(self, key: _Key, now: float) -> HttpConnection | None:
        """Take the idle connection that was used last, so that those too many grow old."""
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.idle_since < KEEPALIVE_S:
                return connection
            connection.abort()
        return None

    def _keep(self, key: _Key, connection: HttpConnection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.setdefault(key, []).append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for long, and forget what others closed."""
        idle, self._idle = self._idle, {}
        oldest = self._loop.time() - KEEPALIVE_S
        for key, connections in idle.items():
            for connection in connections:
                if not connection.usable or connection.idle_since <= oldest:
                    connection.abort()
                else:
                    self._idle.setdefault(key, []).append(connection)
        self._sweeping = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep) if self._idle else None


@contextlib.asynccontextmanager
async def http_client() -> AsyncIterator[HttpClient]:
    """Open the connections of all webhooks."""
    client = HttpClient()
    try:
        yield client
    finally:
        await client.close()
