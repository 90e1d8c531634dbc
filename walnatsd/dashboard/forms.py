"""Forms that only our own pages can send, and what is said after one was carried out."""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from urllib.parse import parse_qs

from aiohttp import web

from walnatsd.dashboard import cookies
from walnatsd.model.refusal import Reason, Refusal

FIELD = "form_token"
MOST_NOTES = 100
_FORM = "application/x-www-form-urlencoded"


class Forms:
    """Ties every form to the browser that was given it.

    The browser has a random name in a cookie; the form has its MAC under a key that only this process knows. Another site
    can have a browser send the cookie, but can't read the form, and can't compute the MAC.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._notes: OrderedDict[str, str] = OrderedDict()

    def visitor(self, request: web.Request) -> str:
        """Give the random name of a browser; a new one where it has none."""
        return cookies.read(request, "form") or secrets.token_urlsafe(24)

    def remember(self, request: web.Request, response: web.StreamResponse, visitor: str) -> None:
        """Leave the name with the browser."""
        if cookies.read(request, "form") != visitor:
            # Lax: whoever comes by a link in an alert keeps the forms of other tabs; it grants nothing by itself
            cookies.leave(request, response, "form", visitor, same_site="Lax")

    def token(self, visitor: str) -> str:
        """Give what a form of this browser has to send along."""
        return hmac.new(self._key, visitor.encode(), hashlib.sha256).hexdigest()

    async def read(self, request: web.Request) -> dict[str, list[str]]:
        """Read a form.

        Raises:
            Refusal: ORIGIN: our pages did not send it; INVALID_REQUEST: it is no form.
        """
        if request.content_type != _FORM:
            raise Refusal(Reason.INVALID_REQUEST, f"a form has the content type {_FORM}")
        fields = parse_qs((await request.read()).decode(errors="replace"), keep_blank_values=True)
        given, visitor = fields.get(FIELD, [""])[0], cookies.read(request, "form")
        if not (visitor and hmac.compare_digest(given.encode(), self.token(visitor).encode())):
            raise Refusal(
                Reason.ORIGIN,
                "this form is not of a page that this daemon gave to this browser since its start; nothing was done. "
                "Go back, load the page again, and do it once more (cookies must be allowed)",
            )
        return fields

    def say(self, visitor: str, note: str) -> None:
        """Leave a word for the next page that a browser is shown."""
        self._notes[visitor] = note
        while len(self._notes) > MOST_NOTES:
            self._notes.popitem(last=False)

    def said(self, visitor: str) -> str:
        """Take the word that was left; empty where there is none."""
        return self._notes.pop(visitor, "")
