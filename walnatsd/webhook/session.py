"""The connections of all webhooks: where they may go and how long they are kept."""

import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from walnatsd import __version__
from walnatsd.model.addresses import why_forbidden

KEEPALIVE_S = 4.5
"""Below the 5 s after which common servers (uvicorn, Node) close an idle connection: closing first avoids the race."""
DNS_TTL_S = 10

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]


@contextlib.asynccontextmanager
async def webhook_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the connection pool of all webhooks. Slots bound its use, so the pool itself has no limit."""
    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=DNS_TTL_S, socket_factory=_open_socket
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding",),  # the answer's beginning is shown to people as it comes
        headers={"user-agent": f"walnatsd/{__version__}"},
    ) as session:
        yield session


class ForbiddenAddressError(OSError):
    """No webhook may be called at this address."""


def _open_socket(info: AddressInfo) -> socket.socket:
    """Open a socket for an address that a name was resolved to, or that stood in the URL."""
    family, kind, protocol, _, address = info
    if why := why_forbidden(str(address[0])):
        raise ForbiddenAddressError(errno.EACCES, why)
    return socket.socket(family, kind, protocol)
