"""Answers of the HTTP addresses in JSON."""

from collections.abc import Mapping

import orjson
from aiohttp import web


def json_answer(body: Mapping[str, object], *, status: int = 200) -> web.Response:
    """Write a JSON object as an answer."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
