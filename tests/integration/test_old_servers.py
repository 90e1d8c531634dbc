"""The delivery path on every nats-server that walnatsd supports, from 2.10 on."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from support.daemon import config_text, running
from support.letters import dead_letters, unsettled
from support.nats_server import OLDER_VERSIONS, NatsServer, binary_of, nats_server
from support.receiver import Received, Receiver, answers
from support.waiting import until

every_version = pytest.mark.parametrize("version", [*OLDER_VERSIONS, "newest"])


@contextlib.asynccontextmanager
async def server_of(version: str, folder: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(folder / "nats", binary=None if version == "newest" else binary_of(version)) as server:
        async with server.jetstream() as jetstream:
            running_version = jetstream._nc._server_info["version"]
        assert version in (running_version, "newest")
        yield server


def config(nats: NatsServer, receiver: Receiver, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "max_attempts": 3}}
    event = {"name": "counts", "description": "Numbers.", "limits": {"age": "1h", "messages": 1000}}
    return config_text(nats.url, events=[event], actors=[actor | options], shutdown_timeout=1)


@every_version
async def test_messages_are_acked_retried_delayed_and_given_up(version: str, tmp_path: Path, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        match received.body, received.attempt:
            case (b"bad", _):
                return web.Response(status=400, text="bad")
            case (b"never", _) | (b"again", 1):
                return web.Response(status=500)
        return web.Response()

    receiver.answer = answer
    async with server_of(version, tmp_path) as nats:
        async with running(config(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
            assert not (await sidecar.emit("counts", "good", uid="u"))["duplicate"]
            assert (await sidecar.emit("counts", "good", uid="u"))["duplicate"]
            for payload in ("again", "bad", "never"):
                await sidecar.emit("counts", payload)
            await jetstream.publish("counts", b"late", headers={"Walnats-Delay": str(time.time() + 0.2)})
            await until(lambda: _settled(nats))
            metrics = await sidecar.metrics()
        letters = {payload: headers for headers, payload in await dead_letters(nats)}
    attempts = {received.body: received.attempt for received in receiver.received}
    assert attempts == {b"good": 1, b"again": 2, b"bad": 1, b"never": 3, b"late": 1}
    assert {payload: headers["walnats-dead-letter-attempts"] for payload, headers in letters.items()} == {
        b"bad": "1", b"never": "3",
    }  # fmt: skip
    assert metrics['walnatsd_dead_letters_total{actor="print",cause="attempts",event="counts"}'] == 1


async def _settled(nats: NatsServer) -> bool:
    return await unsettled(nats) == 0


@every_version
async def test_what_is_declared_is_registered_once_and_then_found_as_it_is(
    version: str, tmp_path: Path, receiver
) -> None:
    async with server_of(version, tmp_path) as nats:
        async with running(config(nats, receiver)):
            pass
        with capture_logs() as logs:
            async with running(config(nats, receiver)) as sidecar:
                await sidecar.emit("counts", "1")
                await receiver.wait_for(1)
    assert not [line for line in logs if "in NATS" in line["event"]]


@every_version
async def test_a_410_pauses_the_actor_and_keeps_its_messages(version: str, tmp_path: Path, receiver) -> None:
    """Before 2.11 NATS can't pause: then it is this sidecar that stops, until it is started again."""
    receiver.answer = answers(then=410)
    async with server_of(version, tmp_path) as nats:
        async with running(config(nats, receiver)) as sidecar:
            await sidecar.emit("counts", "1")
            await receiver.wait_for(1)
            await sidecar.emit("counts", "2")
            await until(lambda: _is_paused(nats, version))
            await sidecar.emit("counts", "3")
        assert len(receiver.received) <= 2  # the second may have been on its way
        assert await unsettled(nats) == 3
        receiver.answer = answers()
        receiver.received.clear()
        if not version.startswith("2.10"):
            async with nats.jetstream() as jetstream:
                assert (await jetstream._api_request("$JS.API.CONSUMER.INFO.counts.print", b""))["paused"]
                await jetstream._api_request("$JS.API.CONSUMER.PAUSE.counts.print", b"")
        async with running(config(nats, receiver)):
            await receiver.wait_for(3)
            await until(lambda: _settled(nats))
    assert sorted(receiver.bodies) == [b"1", b"2", b"3"]


async def _is_paused(nats: NatsServer, version: str) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream._api_request("$JS.API.CONSUMER.INFO.counts.print", b"")
    # the sidecar's own pause is seen from outside in that it asks for nothing more
    return info["num_waiting"] == 0 if version.startswith("2.10") else bool(info.get("paused"))
