"""Where a framework puts the app: a route answers at the actor's path, a mount redirects, which no sidecar follows."""

import httpx
import pytest
from fastapi import FastAPI

import walnatsd_client as walnatsd

COUNT = walnatsd.Event("counts", int)
HEADERS = {"walnats-event": "counts", "walnats-actor": "show", "content-type": "application/json"}


@pytest.mark.parametrize(("way", "status"), [("route", 204), ("mount", 307)])
async def test_a_route_answers_and_a_mount_redirects(way, status) -> None:
    seen: list[int] = []
    app = walnatsd.asgi_app(walnatsd.Actor("show", COUNT, seen.append))
    web = FastAPI()
    if way == "route":
        web.add_route("/show", app)
    else:
        web.mount("/show", app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://service") as client:
        answer = await client.post("/show", content=b"1", headers=HEADERS)
    assert answer.status_code == status
    assert seen == ([1] if way == "route" else [])
