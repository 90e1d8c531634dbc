"""Who has shown a token: a browser can't send one with every request, so it is given a session."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from walnatsd.api.access import Access, needed_for
from walnatsd.dashboard import cookies
from walnatsd.model.refusal import Reason, Refusal

OPERATION = "dashboard"
"""What is asked for in the table of scopes."""
LASTS_S = 12 * 3600.0
MOST_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class _Session:
    authorization: str
    until: float


class Sessions:
    """Sessions of browsers. The cookie holds a random name, never the token: browsers send cookies to every port of a host.

    The token is checked anew with every request, so a reload that takes it away ends its sessions.
    """

    def __init__(self, access: Access | None, now: Callable[[], float]) -> None:
        """Begin with none.

        Args:
            access: The tokens; None: there are none, and everybody who reaches the address may come in.
            now: Seconds from any start that never go back.
        """
        self.access = access
        self._now = now
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def authorization(self, request: web.Request) -> str | None:
        """Give what a request is allowed by: its own header, or what its session began with."""
        if own := request.headers.get(hdrs.AUTHORIZATION):
            return own
        session = self._sessions.get(_digest(cookies.read(request, "session")))
        return session.authorization if session is not None and session.until > self._now() else None

    def check(self, request: web.Request) -> None:
        """Let a request pass.

        Raises:
            Refusal: TOKEN: there is no session; SCOPE.
        """
        if self.access is not None:
            self.access.check(self.authorization(request), needed_for(OPERATION))

    def begin(self, request: web.Request, response: web.StreamResponse, token: str) -> None:
        """Begin a session.

        Raises:
            Refusal: TOKEN; SCOPE: the token is none of an administrator.
        """
        if self.access is None:
            raise Refusal(Reason.INVALID_REQUEST, "this daemon has no tokens; the dashboard is open")
        authorization = f"Bearer {token.strip()}"
        self.access.check(authorization, needed_for(OPERATION))
        self.end(request, response)
        name = secrets.token_urlsafe(32)
        self._sessions[_digest(name)] = _Session(authorization, self._now() + LASTS_S)
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        cookies.leave(request, response, "session", name, same_site="Strict")

    def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session of a browser, where it has one."""
        self._sessions.pop(_digest(cookies.read(request, "session")), None)
        cookies.take_back(request, response, "session")


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="replace")).digest()
