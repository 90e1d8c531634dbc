"""A real Prometheus, fed by a running daemon with actors that work, fail, reject and are not there."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from support.admin import admin
from support.daemon import Sidecar, config_text, running
from support.monitoring import Prometheus, dashboard_queries, hasty_rules, prometheus
from support.nats_server import NatsServer, free_port
from support.receiver import Received, Receiver
from support.waiting import until
from walnatsd.api import watch

pytestmark = pytest.mark.needs_program("prometheus")

ANSWERS = {"work": 204, "fail": 500, "reject": 422, "park": 500}


async def answer(received: Received) -> web.Response:
    status = ANSWERS[received.headers["walnats-actor"]]
    return web.Response(status=status, body=b"1" if status == 204 else None, content_type="application/json")


def config(nats: NatsServer, receiver: Receiver) -> str:
    def actor(name: str, event: str = "counts", **options: Any) -> dict[str, Any]:
        return {"name": name, "event": event, "url": receiver.url, "retry": {"delays": [0.2], "jitter": 0}} | options

    actors = [
        actor("work", responds=True),
        actor("fail"),
        actor("reject"),
        actor("away", url=f"http://127.0.0.1:{free_port()}/", breaker={"consecutive": 2, "open_for": "1s"}),
        actor("park", retry={"delays": ["2m"], "jitter": 0}),
        actor("behind", event="narrow"),
    ]
    events = [{"name": "counts", "limits": {"bytes": "1MiB"}}, {"name": "narrow", "limits": {"messages": 2}}]
    letters = {"bytes": "16MiB", "pause_actor_after": None}
    return config_text(
        nats.url, events=events, actors=actors, dead_letters=letters, monitoring={"listen": "127.0.0.1:0"}
    )


async def emit_on(sidecar: Sidecar) -> None:
    """Emit all kinds of things, for as long as somebody looks."""
    while True:
        for event in ("counts", "narrow"):
            await sidecar.emit(event, "1")
        await sidecar.try_emit("counts", "1", uid="ü")
        await sidecar.try_emit("counts", "1", delay="1s")
        url = f"http://{sidecar.http}/v1/events/counts/request"
        async with sidecar.session.post(url, data="1", params={"uid": secrets.token_hex(8)}) as response:
            await response.read()
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def monitored(nats, receiver, folder, monkeypatch, *, rules: str = "") -> AsyncIterator[Prometheus]:
    monkeypatch.setattr(watch, "PERIOD_S", 0.5)
    receiver.answer = answer
    async with running(config(nats, receiver)) as sidecar:
        assert (await admin(sidecar, "POST", "actors/narrow/behind/pause"))[0] == 200
        emitting = asyncio.create_task(emit_on(sidecar))
        try:
            async with prometheus(folder / "prometheus", sidecar.monitoring, rules=rules) as it:
                yield it
        finally:
            emitting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await emitting


async def test_every_panel_of_the_dashboard_has_data(nats, receiver, tmp_path, monkeypatch) -> None:
    chosen = {"$__rate_interval": "20s", "$event": ".*", "$actor": ".*"}
    left = [
        (title, re.sub("|".join(map(re.escape, chosen)), lambda found: chosen[found[0]], query))
        for title, query in dashboard_queries()
    ]
    assert len(left) > 35
    async with monitored(nats, receiver, tmp_path, monkeypatch) as server:

        async def all_have_data() -> bool:
            left[:] = [(title, query) for title, query in left if not await server.query(query)]
            return not left

        try:
            await until(all_have_data, timeout_s=60)
        except AssertionError:
            raise AssertionError(f"without data: {left}") from None


async def test_what_is_wrong_fires_its_alert_and_nothing_else_does(nats, receiver, tmp_path, monkeypatch) -> None:
    expected = {
        ("WalnatsdActorPaused", "behind"),
        ("WalnatsdBreakerOpen", "away"),
        ("WalnatsdAttemptsFail", "fail"),
        ("WalnatsdAttemptsFail", "reject"),
        ("WalnatsdAttemptsFail", "park"),
        ("WalnatsdMessagesDropped", "behind"),
        ("WalnatsdEventNearlyFull", "narrow"),
        ("WalnatsdDeadLetters", ""),
        ("WalnatsdEmitsRefused", "counts"),
    }
    async with monitored(nats, receiver, tmp_path, monkeypatch, rules=hasty_rules()) as server:
        fired: set[tuple[str, str]] = set()

        async def all_fire() -> bool:
            fired.update(await server.firing())
            return expected <= fired

        try:
            await until(all_fire, timeout_s=60)
        except AssertionError:
            raise AssertionError(f"silent: {expected - fired}") from None
    # only without their `for`: a breaker that opens and closes leaves moments in which nobody asks, and what is due may be
    # seen before it is fetched
    assert fired - {("WalnatsdActorUnserved", "away"), ("WalnatsdDueWaiting", "")} == expected
