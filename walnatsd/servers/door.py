"""The door of the HTTP addresses: who may come in from a browser, and every error as problem details.

A page of another site can make a browser on this machine send requests here: under a name of its own that it points to
127.0.0.1 (DNS rebinding; `Host` tells), or straight across sites (`Origin` tells). Contract, section 4.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from walnatsd.api.errors import TABLE, problem
from walnatsd.config.listen import Tcp, parse_address
from walnatsd.model.refusal import Reason, Refusal

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Door = Callable[[web.Request, _Handler], Awaitable[web.StreamResponse]]


def door(listen: str, allowed_hosts: Sequence[str] | None) -> _Door:
    """Make the door of an address; with None as `allowed_hosts` everybody may come in."""
    guard = Guard(listen, allowed_hosts) if allowed_hosts is not None else None

    @web.middleware
    async def come_in(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if guard is not None:
                guard.check(request.headers.getall("Host", []), request.headers.getall("Origin", []))
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            what = f"{error.method} is not what this path is for; allowed: {allowed}"
            return refused(Refusal(Reason.WRONG_METHOD, what), Allow=allowed)
        except web.HTTPNotFound:
            return refused(Refusal(Reason.UNKNOWN_PATH, f"there is nothing at {request.path[:200]}"))

    return come_in


def refused(refusal: Refusal, **headers: str) -> web.Response:
    """Write a refusal as an answer."""
    response = web.Response(
        status=TABLE[refusal.reason].http,
        body=orjson.dumps(problem(refusal)),
        content_type="application/problem+json",
        headers=headers,
    )
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return response


class Guard:
    """Decides by the headers that a browser sets and a page can't.

    On loopback, the host must be a loopback name or address, or one of `allowed_hosts`. Elsewhere (other interfaces, Unix
    sockets) the daemon can't know what it is called, so there only `allowed_hosts` says, where it is given. A page may call
    from a host that may be called, or from the one that it calls.
    """

    def __init__(self, listen: str, allowed_hosts: Sequence[str]) -> None:
        address = parse_address(listen)
        self._is_loopback = isinstance(address, Tcp) and address.is_loopback
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    def check(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        """Let a request pass.

        Raises:
            Refusal: HOST or ORIGIN.
        """
        if len(hosts) > 1:
            raise Refusal(Reason.INVALID_HEADER, "there is more than one Host header")
        for host in hosts:
            if (self._is_loopback or self._allowed) and not self._is_ours(host):
                raise Refusal(
                    Reason.HOST, f"this address is not called {host[:100]!r}; if it should be, add that to allowed_hosts"
                )
        for origin in origins:
            host = urlsplit_host(origin)
            if not host or not (self._is_ours(host) or (not self._is_loopback and [host] == [*map(str.lower, hosts)])):
                raise Refusal(
                    Reason.ORIGIN,
                    f"a page of {origin[:100]!r} may not call this address; if it should, add its host to allowed_hosts",
                )

    def _is_ours(self, host: str) -> bool:
        name, _ = _split(host)
        return name in self._allowed or host.lower() in self._allowed or _is_loopback(name)


def urlsplit_host(origin: str) -> str:
    """Give `host` or `host:port` of an origin; empty for `null` and nonsense."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _split(host: str) -> tuple[str, str]:
    """Split `host:port`, in lower case, without the brackets of IPv6."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or not port.isdecimal():
        name, port = host.lower(), ""
    return name.removeprefix("[").removesuffix("]").removesuffix("."), port


def _is_loopback(name: str) -> bool:
    return Tcp(name, 0).is_loopback
