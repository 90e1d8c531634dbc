"""The door of the pages: stricter than that of the address, for behind it one click deletes."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from walnatsd.api.errors import TABLE
from walnatsd.dashboard.pages import address, page
from walnatsd.dashboard.sessions import Sessions
from walnatsd.model.refusal import Reason, Refusal

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would come with the origin `null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def door(sessions: Sessions) -> Middleware:
    """Make the door: whom it lets in, and refusals as pages. Who has no session is led to the page to log in."""

    @web.middleware
    async def come_in(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            check(request)
            if not _is_open(request):
                sessions.check(request)
            return await handler(request)
        except Refusal as refusal:
            if refusal.reason is Reason.TOKEN and request.method == "GET" and is_page(request):
                to = quote(request.path_qs, safe="")
                return web.Response(status=303, headers={"Location": f"{address('login')}?to={to}"})
            return refused(refusal)
        except web.HTTPNotFound:
            return refused(Refusal(Reason.UNKNOWN_PATH, f"there is no page at {request.path[:200]}"))
        except web.HTTPMethodNotAllowed as error:
            answer = refused(Refusal(Reason.WRONG_METHOD, f"{error.method} is not what {request.path[:200]} is for"))
            answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return answer
        except web.HTTPRequestEntityTooLarge:
            return refused(Refusal(Reason.TOO_LARGE, "the form is too large; choose fewer"))

    return come_in


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Write on every answer what the browser may do with it."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def check(request: web.Request) -> None:
    """See that no page of another site or another port is at work; a link that somebody follows may come from anywhere.

    Raises:
        Refusal: ORIGIN.
    """
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    follows_link = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    elsewhere = site not in ("none", "same-origin") and not follows_link
    if elsewhere or (origin is not None and urlsplit(origin).netloc.lower() != request.host.lower()):
        raise Refusal(Reason.ORIGIN, "only its own pages may use the dashboard; nothing was done")


def _is_open(request: web.Request) -> bool:
    """Whether it needs no session: the page to log in and what it looks like."""
    return request.path == address("login") or request.path.startswith(f"{address('static')}/")


def is_page(request: web.Request) -> bool:
    """Whether somebody asked for a page to be shown, and no script for data."""
    return request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def refused(refusal: Refusal) -> web.Response:
    """Write a refusal as a page."""
    row = TABLE[refusal.reason]
    answer = page(
        "refusal.html", status=row.http, title=row.title, message=refusal.message, reason=refusal.reason.value
    )
    if refusal.retry_after_s is not None:
        answer.headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return answer
