"""The administration address, as a program uses it."""

import json
from typing import Any

from support.daemon import Sidecar
from support.described import admin_description


async def admin(sidecar: Sidecar, method: str, path: str, **query: str | int) -> tuple[int, Any]:
    """Call a path under /admin/v1/; give status and answer."""
    url = f"http://{sidecar.admin}/admin/v1/{path}"
    async with sidecar.session.request(method, url, params=query) as response:
        body = await response.read()
        told = dict(response.headers)
        if response.status not in (404, 405) or b"UNKNOWN_PATH" not in body:
            admin_description().see_answer(method.lower(), response.url.raw_path, response.status, told, body)
        return response.status, json.loads(body) if body else None


async def actor_status(sidecar: Sidecar, name: str) -> dict[str, Any]:
    """The entry of an actor in the list."""
    status, answer = await admin(sidecar, "GET", "actors")
    assert status == 200, answer
    [found] = [item for item in answer["items"] if item["name"] == name]
    return found


async def event_status(sidecar: Sidecar, name: str) -> dict[str, Any]:
    """The entry of an event in the list."""
    status, answer = await admin(sidecar, "GET", "events")
    assert status == 200, answer
    [found] = [item for item in answer["items"] if item["name"] == name]
    return found
