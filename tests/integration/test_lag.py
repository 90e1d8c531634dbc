"""How far actors are behind, and how full events are, as the metrics show it."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web

from support.admin import actor_status, admin
from support.daemon import Sidecar, config_text, process, running
from support.receiver import Received, answers
from support.waiting import until
from walnatsd.api import watch

QUICK = {"retry": {"delays": [0.05], "jitter": 0}}


@pytest.fixture(autouse=True)
def _look_often(monkeypatch) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    monkeypatch.setattr(watch, "LEAST_PAUSE_S", 0.01)


def actor(name: str, url: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "event": "counts", "url": url, "ack_wait": 30} | QUICK | options


async def show(sidecar: Sidecar, expected: dict[str, float]) -> dict[str, float]:
    """Wait until the metrics show this; give all of them."""
    last: dict[str, float] = {}

    async def shown() -> bool:
        last.clear()
        last.update(await sidecar.metrics())
        return {name: last.get(name) for name in expected} == expected

    await until(shown)
    return last


def of(name: str, which: str) -> str:
    return f'walnatsd_{name}{{actor="{which}",event="counts"}}'


async def test_the_lag_of_each_actor_is_shown_with_the_age_of_its_oldest_message(nats, receiver) -> None:
    let_go = asyncio.Event()

    async def answer(received: Received) -> web.Response:
        stuck = {"slow": "1", "slower": "0"}.get(received.headers["walnats-actor"])
        if stuck is not None and received.body.decode() >= stuck:
            await let_go.wait()
        return web.Response(status=204)

    receiver.answer = answer
    actors = [actor(name, receiver.url, max_jobs=1) for name in ("quick", "slow", "slower")]
    events = [{"name": "counts", "limits": {"messages": 10, "bytes": "1MiB"}}]
    async with running(config_text(nats.url, events=events, actors=actors)) as sidecar:
        began_at = time.time()
        for number in range(3):
            await sidecar.emit("counts", str(number))
        shown = await show(
            sidecar,
            {
                of("pending_messages", "quick"): 0,
                of("ack_pending_messages", "quick"): 0,
                of("oldest_age_seconds", "quick"): 0,
                of("pending_messages", "slow"): 1,
                of("ack_pending_messages", "slow"): 1,
                of("redelivered_messages", "slow"): 0,
                of("waiting_pulls", "slow"): 0,
                of("pending_messages", "slower"): 2,
                of("ack_pending_messages", "slower"): 1,
                'walnatsd_event_messages{event="counts"}': 3,
                'walnatsd_event_fill_ratio{event="counts"}': 0.3,
            },
        )
        assert shown[of("waiting_pulls", "quick")] >= 1
        assert shown['walnatsd_event_bytes{event="counts"}'] > 0
        first, second = shown[of("oldest_age_seconds", "slower")], shown[of("oldest_age_seconds", "slow")]
        assert 0 < first <= time.time() - began_at
        assert first > second, "slow has handled the first one, so its oldest is a younger one"
        let_go.set()
        await show(
            sidecar,
            {of(name, which): 0 for which in ("slow", "slower") for name in ("pending_messages", "oldest_age_seconds")}
            | {'walnatsd_event_messages{event="counts"}': 0},
        )


async def test_a_message_that_is_retried_shows_as_redelivered(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    actors = [actor("print", receiver.url)]
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=actors)) as sidecar:
        await sidecar.emit("counts", "1")
        await show(sidecar, {of("redelivered_messages", "print"): 1})


async def test_an_actor_that_is_paused_for_all_sidecars_shows_as_paused(nats, receiver) -> None:
    actors = [actor("print", receiver.url)]
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=actors)) as sidecar:
        await show(sidecar, {of("consumer_paused", "print"): 0})
        assert (await admin(sidecar, "POST", "actors/counts/print/pause"))[0] == 200
        await show(sidecar, {of("consumer_paused", "print"): 1})


async def test_the_lag_of_an_actor_that_is_gone_is_not_shown_any_more(nats, receiver, tmp_path) -> None:
    text = config_text(nats.url, events=[{"name": "counts"}], actors=[actor("print", receiver.url)])
    without = config_text(nats.url)
    hasty = "from walnatsd.api import watch; watch.PERIOD_S = 0.1"
    async with process(tmp_path / "daemon", text, prelude=hasty) as daemon:
        assert daemon.sidecar is not None
        await show(daemon.sidecar, {of("pending_messages", "print"): 0})
        assert (await actor_status(daemon.sidecar, "print"))["pending"] == 0
        daemon.file.write_text(without)
        async with daemon.sidecar.session.post(f"http://{daemon.sidecar.admin}/admin/v1/reload") as response:
            assert response.status == 200, await response.text()

        async def gone() -> bool:
            assert daemon.sidecar is not None
            shown = await daemon.sidecar.metrics()
            return not [name for name in shown if "_pending_messages{" in name or "walnatsd_event_" in name]

        await until(gone)


async def test_dead_letters_in_nats_are_counted_with_the_share_of_their_limit(nats, receiver) -> None:
    receiver.answer = answers(then=400)
    actors = [actor("print", receiver.url)]
    letters = {"bytes": "64KiB"}
    text = config_text(nats.url, events=[{"name": "counts"}], actors=actors, dead_letters=letters)
    async with running(text) as sidecar:
        await show(sidecar, {"walnatsd_dead_letters_stored": 0, "walnatsd_dead_letters_fill_ratio": 0})
        await sidecar.emit("counts", '"' + "x" * 16_000 + '"')
        shown = await show(sidecar, {"walnatsd_dead_letters_stored": 1})
    assert 0.25 < shown["walnatsd_dead_letters_fill_ratio"] < 0.3


async def test_the_version_and_readiness_are_shown(nats) -> None:
    from walnatsd import __version__

    async with running(config_text(nats.url)) as sidecar:
        await show(sidecar, {f'walnatsd_build_info{{version="{__version__}"}}': 1, "walnatsd_ready": 1})
        await nats.kill()
        await show(sidecar, {"walnatsd_ready": 0})
