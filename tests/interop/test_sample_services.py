"""The sample services of examples/services do what their README says: one shop in three languages, with one config."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from support.admin import admin
from support.daemon import ANYWHERE, Sidecar, running
from support.foreign import build_go, program
from support.nats_server import free_port
from support.waiting import until

SERVICES = Path(__file__).parents[2] / "examples" / "services"
SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


class Shop:
    """A running shop, with its sidecar, as its customers and its operators see it."""

    def __init__(self, url: str, sidecar: Sidecar, process: asyncio.subprocess.Process) -> None:
        self.url = url
        self.sidecar = sidecar
        self.process = process

    async def get(self, path: str) -> Any:
        async with self.sidecar.session.get(self.url + path) as response:
            return await response.json() if response.status == 200 else response.status

    async def post(self, path: str, body: Any, **headers: str) -> int:
        async with self.sidecar.session.post(self.url + path, json=body, headers=headers) as response:
            return response.status

    async def is_there(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            return await self.get("/healthz") == 204
        return False


def config(nats_url: str, port: int) -> str:
    """The config as it is shipped, but for addresses; smaller and less patient."""
    shipped = (SERVICES / "walnatsd.yaml").read_text()
    assert shipped.count("127.0.0.1:8000/") == 2
    return yaml.safe_dump(
        yaml.safe_load(shipped.replace(":8000/", f":{port}/").replace("1GiB", "4MiB"))
        | {"nats": {"servers": [nats_url]}, "dead_letters": {"bytes": "4MiB"}, "emit": {"timeout": 2}}
        | ANYWHERE
    )


async def command_of(language: str, folder: Path) -> list[str]:
    match language:
        case "node":
            return ["node", str(SERVICES / "node" / "shop.mjs")]
        case "go":
            return [await build_go(SERVICES / "go" / "shop.go", folder)]
        case _:
            return [sys.executable, str(SERVICES / "python" / "shop.py")]


@contextlib.asynccontextmanager
async def running_shop(language: str, nats_url: str, folder: Path) -> AsyncIterator[Shop]:
    port = free_port()
    async with running(config(nats_url, port), environ={"WEBHOOK_SECRET": SECRET}) as sidecar:
        environ = {
            "PORT": str(port), "WEBHOOK_SECRET": SECRET,
            "WALNATSD_URL": f"http://{sidecar.http}", "WALNATSD_GRPC": sidecar.grpc,
        }  # fmt: skip
        async with program(*await command_of(language, folder), environ=environ, piped=False) as process:
            shop = Shop(f"http://127.0.0.1:{port}", sidecar, process)
            await until(shop.is_there, timeout_s=60)
            yield shop


@pytest.fixture(
    params=[
        pytest.param("node", marks=pytest.mark.needs_program("node")),
        pytest.param("go", marks=pytest.mark.needs_program("go")),
        "python",
    ]
)
async def shop(request, nats, tmp_path) -> AsyncIterator[Shop]:
    async with running_shop(request.param, nats.url, tmp_path) as it:
        yield it


async def test_an_order_is_shipped_once_however_often_it_is_placed_and_a_stop_is_clean(shop) -> None:
    for _ in range(2):
        assert await shop.post("/orders", {"order_id": 7, "item": "umbrella"}) == 202
    assert await shop.post("/orders", {"order_id": 8, "item": "hat"}) == 202

    async def all_shipped() -> bool:
        return sorted(await shop.get("/parcels")) == [7, 8]

    await until(all_shipped)
    metrics = await shop.sidecar.metrics()
    assert metrics['walnatsd_emits_total{event="order-placed",outcome="stored"}'] == 2
    assert metrics['walnatsd_emits_total{event="order-placed",outcome="duplicate"}'] == 1
    assert metrics['walnatsd_emits_total{event="parcel-sent",outcome="stored"}'] == 2
    shop.process.terminate()
    async with asyncio.timeout(20):
        assert await shop.process.wait() in (0, -signal.SIGTERM)  # uvicorn ends by the signal when all is done


async def test_what_is_no_order_is_refused_at_the_door_and_a_dead_letter_behind_it(shop) -> None:
    assert await shop.post("/orders", {"order_id": "seven"}) in (400, 422)
    await shop.sidecar.emit("order-placed", '{"order_id": "seven"}')

    async def buried() -> bool:
        return bool((await admin(shop.sidecar, "GET", "dead-letters"))[1]["items"])

    await until(buried)
    assert await shop.get("/parcels") == []


async def test_a_request_that_the_sidecar_has_not_signed_ships_nothing(shop) -> None:
    facts = {"walnats-event": "order-placed", "walnats-actor": "ship"}
    forged = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,Zm9yZ2Vk"}
    assert await shop.post("/ship", {"order_id": 7, "item": "umbrella"}, **facts) == 401
    assert await shop.post("/ship", {"order_id": 7, "item": "umbrella"}, **facts, **forged) == 401
    assert await shop.get("/parcels") == []


async def test_an_order_is_refused_while_it_could_not_be_stored(shop, nats) -> None:
    await nats.kill()

    async def refused() -> bool:
        return await shop.post("/orders", {"order_id": 9, "item": "scarf"}) >= 500

    await until(refused, timeout_s=40)
