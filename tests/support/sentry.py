"""A real receiver of Sentry's envelopes."""

import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from support.receiver import serving
from support.waiting import until


class SentryReceiver:
    """Records what is reported. `status` is what it answers."""

    def __init__(self) -> None:
        self.dsn = ""
        self.reports: list[dict[str, Any]] = []
        self.requests = 0
        self.status = 200

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many reports have come."""
        await until(lambda: len(self.reports) >= count, what=f"{count} reports; have {len(self.reports)}")
        return self.reports


@contextlib.asynccontextmanager
async def sentry_receiver() -> AsyncIterator[SentryReceiver]:
    receiver = SentryReceiver()

    async def take(request: web.Request) -> web.Response:
        receiver.requests += 1
        body = await request.read()
        lines = (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).splitlines()
        if receiver.status == 200:
            receiver.reports += [
                json.loads(content)
                for head, content in zip(lines[1::2], lines[2::2], strict=True)
                if json.loads(head)["type"] == "event"
            ]
        return web.json_response({}, status=receiver.status)

    app = web.Application()
    app.router.add_post("/api/7/envelope/", take)
    async with serving(app) as address:
        receiver.dsn = f"http://key@{address}/7"
        yield receiver
