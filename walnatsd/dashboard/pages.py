"""Making pages out of templates. Whatever is put into one is escaped; nothing is ever marked as safe."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from aiohttp import web

from walnatsd import __version__
from walnatsd.dashboard import words

if TYPE_CHECKING:
    import jinja2

ROOT = "/dashboard"
STATIC = {"dashboard.css": "text/css", "dashboard.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""The files that pages ask for, with their types."""


def page(template: str, *, status: int = 200, **values: Any) -> web.Response:
    """Make a page."""
    text = _templates().get_template(template).render(**values)
    return web.Response(status=status, text=text, content_type="text/html")


def address(*parts: object, **query: str | None) -> str:
    """Give the address of a page; what is empty in the query is left out."""
    path = "/".join((ROOT, *(quote(str(part), safe="") for part in parts)))
    said = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(said, quote_via=quote, safe='/')}" if said else path


@cache
def static(name: str) -> bytes:
    """Read one of the files that pages ask for."""
    return resources.files("walnatsd.dashboard").joinpath("static", name).read_bytes()


@cache
def _templates() -> "jinja2.Environment":
    """Read the templates when the first page is asked for: most sidecars never show one."""
    import jinja2  # noqa: PLC0415 - some megabytes

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("walnatsd.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for write in (
        words.seconds, words.size, words.count, words.rate, words.ago, words.moment, words.visible,
    ):  # fmt: skip
        environment.filters[write.__name__] = write
    environment.globals |= {"address": address, "version": __version__}
    return environment
