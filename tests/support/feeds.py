"""Watching a sidecar's live feeds: server-sent events and the gRPC stream."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from support.daemon import Sidecar


class Watching:
    """A feed over HTTP, read line by line."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.heartbeats = 0

    async def next(self) -> tuple[str, Any]:
        """The next event: its name and its data, decoded."""
        name, data = "message", []
        async with asyncio.timeout(20):
            while raw := await self.response.content.readline():
                field, _, value = raw.decode().rstrip("\n").partition(":")
                if field == "data":
                    data.append(value.removeprefix(" "))
                elif field == "event":
                    name = value.removeprefix(" ")
                elif raw == b":\n":
                    self.heartbeats += 1
                elif raw == b"\n" and data:
                    return name, json.loads("\n".join(data))
        raise EOFError

    async def message(self) -> dict[str, Any]:
        """The next event; it must be a message."""
        name, data = await self.next()
        assert name == "message", (name, data)
        return data


@contextlib.asynccontextmanager
async def watching(sidecar: Sidecar, event: str, **headers: str) -> AsyncIterator[Watching]:
    """Watch an event; given when everything that is emitted from then on is seen."""
    url = f"http://{sidecar.http}/v1/events/{event}/monitor"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Watching(response)
