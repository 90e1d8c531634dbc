"""Opening connections: a name is looked up, addresses that no webhook may have are refused, TLS is agreed on."""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from functools import cached_property
from typing import NamedTuple, cast

import aiohappyeyeballs

from walnatsd.model.addresses import why_forbidden
from walnatsd.webhook.errors import NotConnectedError
from walnatsd.webhook.http_connection import HttpConnection

DNS_TTL_S = 10.0
HAPPY_EYEBALLS_DELAY_S = 0.25
"""So long an address is tried alone before the next one is tried beside it (RFC 8305, section 5)."""

AddressInfo = aiohappyeyeballs.AddrInfoType


class Origin(NamedTuple):
    """Where requests go."""

    is_tls: bool
    host: str
    """A name in ASCII, or an IP address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ForbiddenAddressError(OSError):
    """No webhook may be called at this address."""


class _Found(NamedTuple):
    """What a name was resolved to."""

    addresses: list[AddressInfo]
    until: float


class Dialer:
    """Opens connections. Names are remembered for some seconds, and looked up by one task for all who ask meanwhile."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], _Found] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[list[AddressInfo] | Exception]] = {}

    @cached_property
    def system_tls(self) -> ssl.SSLContext:
        """A context that trusts the system's authorities."""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def dial(self, origin: Origin, tls: ssl.SSLContext | None) -> HttpConnection:
        """Open a connection.

        Args:
            origin: Where to.
            tls: The certificates; None: the system's. Of no meaning without TLS.

        Raises:
            NotConnectedError: It can't be opened, or not there.
            ValueError: No name or address can be like that.
        """
        try:
            addresses = await self._addresses(origin.host, origin.port)
            if not origin.is_tls:
                return await _connect(addresses, None, None)
            return await _connect(addresses, tls or self.system_tls, origin.host.rstrip("."))
        except OSError as error:
            raise NotConnectedError(f"{origin}: {_words(error)}") from error

    async def close(self) -> None:
        """Give up the lookups that are under way; nobody waits for them any more."""
        for lookup in self._lookups.values():
            lookup.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)

    async def _addresses(self, host: str, port: int) -> list[AddressInfo]:
        """Resolve a name, by turns with another one of its addresses in front."""
        if address := _literal(host):
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            place = (host, port, 0, 0) if address.version == 6 else (host, port)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)]
        key = (host, port)
        found = self._found.get(key)
        if found is None or found.until < asyncio.get_running_loop().time():
            lookup = self._lookups.get(key)
            if lookup is None:
                lookup = self._lookups[key] = asyncio.create_task(self._look_up(key), name=f"webhooks/dns/{host}")
            looked_up = await asyncio.shield(lookup)  # others wait for it, too
            if isinstance(looked_up, Exception):
                raise looked_up
            return looked_up
        found.addresses.append(found.addresses.pop(0))
        return list(found.addresses)

    async def _look_up(self, key: tuple[str, int]) -> list[AddressInfo] | Exception:
        """Ask the system. An exception is returned, for all who wait may be gone."""
        loop, (host, port) = asyncio.get_running_loop(), key
        try:
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except (OSError, ValueError) as error:  # ValueError: it can't be encoded
            return error
        finally:
            del self._lookups[key]
        addresses = [cast("AddressInfo", info) for info in infos]
        now = loop.time()
        self._found = {name: found for name, found in self._found.items() if found.until >= now}
        self._found[key] = _Found(addresses, now + DNS_TTL_S)
        return list(addresses)


async def _connect(addresses: list[AddressInfo], tls: ssl.SSLContext | None, name: str | None) -> HttpConnection:
    """Connect to the first of the addresses that can be had; with TLS, that speaks for the name."""
    loop = asyncio.get_running_loop()
    while True:
        opened = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S, loop=loop, socket_factory=_open_socket
        )
        try:
            peer = opened.getpeername()
            _, connection = await loop.create_connection(HttpConnection, sock=opened, ssl=tls, server_hostname=name)
        except BaseException as error:
            opened.close()
            left = [info for info in addresses if info[4][:2] != peer[:2]]
            if not isinstance(error, OSError) or not left or len(left) == len(addresses):
                raise
            addresses = left
        else:
            return connection


def _open_socket(info: AddressInfo) -> socket.socket:
    """Open a socket for an address that a name was resolved to, or that stood in the URL."""
    family, kind, protocol, _, address = info
    if why := why_forbidden(str(address[0])):
        raise ForbiddenAddressError(errno.EACCES, why)
    return socket.socket(family, kind, protocol)


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Give the IP address that a host is; None where it is a name.

    Raises:
        ValueError: It is neither: a shorthand like 127.1 or 2130706433, which not all programs read alike.
    """
    if ":" in host:
        return ipaddress.IPv6Address(host)
    if not host.replace(".", "").isdigit():
        return None
    try:
        return ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError(f"{host} is not a canonical IPv4 address") from None


def _words(error: OSError) -> str:
    """Say why there is no connection; the libraries' texts repeat the address, some of them several times."""
    if isinstance(error, ssl.SSLError):
        return str(error)
    if isinstance(error, socket.gaierror) or error.errno in (None, errno.EACCES):
        return error.strerror or str(error) or "the connection was closed"
    return os.strerror(error.errno)
