"""Tokens on the HTTP addresses: the header `Authorization`."""

import contextlib
from collections.abc import Callable

from aiohttp import hdrs, web

from walnatsd.api.access import ADMIN, Access, Scopes, needed_for
from walnatsd.model.refusal import Reason, Refusal

CHALLENGES = {
    Reason.TOKEN: 'Bearer realm="walnatsd"',
    Reason.SCOPE: 'Bearer realm="walnatsd", error="insufficient_scope"',
}
"""RFC 6750, section 3."""


class Tokens:
    """Asks for the token of each call to an application. What nobody has named is for administrators."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._needed: dict[web.AbstractRoute, Scopes] = {}

    def note(self, route: web.AbstractRoute, operation: str) -> None:
        """Note which operation a route is for."""
        self._needed[route] = needed_for(operation)

    def check(self, request: web.Request) -> None:
        """Let a request pass; one for nothing that there is, and one for a part with a door of its own, too.

        Raises:
            Refusal: TOKEN or SCOPE.
        """
        match = request.match_info
        if match.http_exception is None and HAS_ITS_OWN_DOOR not in match.apps[-1]:
            self._access.check(request.headers.get(hdrs.AUTHORIZATION), self._needed_by(request))

    def holding(self, request: web.Request, end: Callable[[Refusal], None]) -> contextlib.AbstractContextManager[None]:
        """See, while the body runs, that the caller still may; `end` is called where a reload takes that away."""
        return self._access.holding(request.headers.get(hdrs.AUTHORIZATION), self._needed_by(request), end)

    def _needed_by(self, request: web.Request) -> Scopes:
        return self._needed.get(request.match_info.route, ADMIN)


TOKENS = web.AppKey("TOKENS", Tokens)
"""Not there where nobody is asked for a token."""
HAS_ITS_OWN_DOOR = web.AppKey("HAS_ITS_OWN_DOOR", bool)
"""Set in an application within another one that asks for tokens in its own way."""


def holding(request: web.Request, end: Callable[[Refusal], None]) -> contextlib.AbstractContextManager[None]:
    """See, while the body runs, that the caller still may, where there are tokens. Arguments as of `Tokens.holding`."""
    tokens = request.app.get(TOKENS)
    return contextlib.nullcontext() if tokens is None else tokens.holding(request, end)
