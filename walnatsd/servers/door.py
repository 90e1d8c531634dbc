"""The door of the HTTP addresses: who may come in from a browser, with which token, and every error as problem details.

A page of another site can make a browser on this machine send requests here: under a name of its own that it points to
127.0.0.1 (DNS rebinding; `Host` tells), or straight across sites (`Origin` tells). Contract, section 4.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from walnatsd.api.access import Access
from walnatsd.api.errors import TABLE, problem
from walnatsd.config.listen import Tcp, parse_address
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.shortcut import SHORTCUT, Shortcut
from walnatsd.servers.tokens import CHALLENGES, TOKENS, Tokens

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(guard: "Guard | None", access: Access | None, **options: int) -> web.Application:
    """Make the empty application of an address behind its door.

    Args:
        guard: Which browsers may come in; None: all.
        access: Which tokens open what; None: nobody is asked for one.
        options: Of `web.Application`.
    """
    tokens = Tokens(access) if access is not None else None
    door = _door(guard, tokens)
    app = web.Application(middlewares=[door], **options)  # type: ignore[arg-type]
    app[SHORTCUT] = Shortcut(door)
    if tokens is not None:
        app[TOKENS] = tokens
    return app


def _door(guard: "Guard | None", tokens: Tokens | None) -> Middleware:
    @web.middleware
    async def come_in(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if guard is not None:
                guard.check(request.headers.getall("Host", []), request.headers.getall("Origin", []))
            if tokens is not None:
                tokens.check(request)
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            what = f"{error.method} is not what {request.path[:200]} is for; allowed: {allowed}"
            return refused(Refusal(Reason.WRONG_METHOD, what), {"Allow": allowed})
        except web.HTTPNotFound:
            return refused(Refusal(Reason.UNKNOWN_PATH, f"there is nothing at {request.path[:200]}"))

    return come_in


def refused(refusal: Refusal, headers: dict[str, str] | None = None) -> web.Response:
    """Write a refusal as an answer."""
    response = web.Response(
        status=TABLE[refusal.reason].http,
        body=orjson.dumps(problem(refusal)),
        content_type="application/problem+json",
        headers=headers,
    )
    if (challenge := CHALLENGES.get(refusal.reason)) is not None:
        response.headers[hdrs.WWW_AUTHENTICATE] = challenge
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return response


class Guard:
    """Decides by two headers that a browser sets and a page can't.

    On loopback, the host must be a loopback name or address, or one of `allowed_hosts` (with a port, or for all ports).
    Elsewhere (other interfaces, Unix sockets) the daemon can't know what it is called, so only `allowed_hosts` says, where
    it is given. A page may call from a host that may be called, and from the very host that it calls.
    """

    def __init__(self, listen: str, allowed_hosts: Sequence[str]) -> None:
        address = parse_address(listen)
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._is_ours = lru_cache(maxsize=256)(self._decide)  # few names, asked for with every request
        self._asks_host = bool(self._allowed) or (isinstance(address, Tcp) and address.is_loopback)

    def check(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        """Let a request pass.

        Raises:
            Refusal: INVALID_HEADER, HOST or ORIGIN.
        """
        if len(hosts) > 1 or len(origins) > 1:
            raise Refusal(Reason.INVALID_HEADER, "Host and Origin may stand once")
        host = hosts[0].lower() if hosts else ""  # HTTP/1.0 has none, but then it is no browser
        if host and self._asks_host and not self._is_ours(host):
            raise Refusal(
                Reason.HOST, f"this address is not called {host[:100]!r}; if it should be, add that to allowed_hosts"
            )
        for origin in origins:
            caller = _host_of(origin)
            if not caller or not (self._is_ours(caller) or caller == host):
                raise Refusal(
                    Reason.ORIGIN,
                    f"a page of {origin[:100]!r} may not call this address; if it should, add its host to allowed_hosts",
                )

    def _decide(self, host: str) -> bool:
        name = host.rpartition(":")[0] if _has_port(host) else host
        bare = name.removeprefix("[").removesuffix("]").removesuffix(".")
        return host in self._allowed or bare in self._allowed or name in self._allowed or Tcp(bare, 0).is_loopback


def _has_port(host: str) -> bool:
    before, colon, port = host.rpartition(":")
    return bool(colon) and port.isdecimal() and (":" not in before or before.endswith("]"))


def _host_of(origin: str) -> str:
    """Give `host` or `host:port` of an origin, in lower case; empty for `null` and nonsense."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
