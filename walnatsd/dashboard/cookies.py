"""The cookies of the pages. No script reads them, and they are sent to the pages only."""

from typing import Literal

from aiohttp import web

from walnatsd.dashboard.pages import ROOT

Kind = Literal["session", "form"]


def read(request: web.Request, kind: Kind) -> str:
    """Give the cookie of a browser; empty where it has none."""
    return request.cookies.get(_name(request, kind), "")


def leave(
    request: web.Request, response: web.StreamResponse, kind: Kind, value: str, *, same_site: Literal["Strict", "Lax"]
) -> None:
    """Leave a cookie with a browser, for TLS alone where it came over TLS."""
    response.set_cookie(
        _name(request, kind), value, path=ROOT, httponly=True, samesite=same_site, secure=request.secure
    )


def take_back(request: web.Request, response: web.StreamResponse, kind: Kind) -> None:
    """Have a browser forget a cookie."""
    response.del_cookie(_name(request, kind), path=ROOT)


def _name(request: web.Request, kind: Kind) -> str:
    """Name the cookie. Browsers keep cookies by host and not by port, and a machine may have several sidecars."""
    port = request.host.rpartition(":")[2]
    return f"walnatsd-{kind}-{port}" if port.isdecimal() else f"walnatsd-{kind}"
