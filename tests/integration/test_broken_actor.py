"""An actor that rejects everything is broken, and not its messages: it is paused."""

import asyncio

from aiohttp import web

from support.admin import actor_status, admin
from support.buried import letters
from support.daemon import config_text, running
from support.listener import listener
from support.nats_server import NatsServer, binary_of, nats_server
from support.receiver import Received, Receiver
from support.route import in_stream
from support.waiting import until


def config(nats: NatsServer, receiver: Receiver) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "max_jobs": 1}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor], dead_letters={"pause_actor_after": 3})


async def refuse_bad(received: Received) -> web.StreamResponse:
    await asyncio.sleep(0.05)
    return web.Response(status=422 if received.body.startswith(b"bad") else 204, text="no such parcel")


async def test_rejections_in_a_row_pause_the_actor_and_keep_its_messages(nats, receiver) -> None:
    receiver.answer = refuse_bad
    async with running(config(nats, receiver)) as sidecar:
        for number in range(100):
            await sidecar.emit("counts", f"bad {number}")
        await until(lambda: _paused(sidecar))
        reason = await until(lambda: _pause_reason(sidecar))
        assert reason == "3 permanent rejections in a row; the last one: 422: no such parcel"
        died = await _count_at_rest(nats, sidecar)
        assert 3 <= died < 50
        await admin(sidecar, "POST", "actors/counts/print/resume")
        await until(lambda: _has(sidecar, died + 3))
        await until(lambda: _paused(sidecar))
        assert await _count_at_rest(nats, sidecar) < 100


async def _count_at_rest(nats, sidecar) -> int:
    """How many died, once nothing is in flight any more; the others are kept."""

    async def rests() -> bool:
        died, kept = len(await letters(sidecar, limit=500)), await in_stream(nats, "counts")
        return (await actor_status(sidecar, "print"))["in_flight"] == 0 and died + kept == 100

    await until(rests)
    return len(await letters(sidecar, limit=500))


async def _paused(sidecar) -> dict[str, object]:
    actor = await actor_status(sidecar, "print")
    return actor if actor["paused"] else {}


async def _pause_reason(sidecar) -> object:
    return (await actor_status(sidecar, "print"))["pause_reason"]


async def _has(sidecar, count: int) -> bool:
    return len(await letters(sidecar, limit=500)) >= count


async def test_a_rejection_now_and_then_pauses_nobody(nats, receiver) -> None:
    receiver.answer = refuse_bad
    async with running(config(nats, receiver)) as sidecar:
        for body in ("bad 1", "bad 2", "good", "bad 3", "bad 4", "good", "bad 5", "bad 6", "good"):
            await sidecar.emit("counts", body)
        await receiver.wait_for(9)
        await until(lambda: _has(sidecar, 6))
        assert not await _paused(sidecar)


async def test_before_2_11_the_actor_is_paused_in_this_sidecar(tmp_path, receiver) -> None:
    receiver.answer = refuse_bad
    async with (
        nats_server(tmp_path / "nats", binary=binary_of("2.10.26")) as nats,
        running(config(nats, receiver)) as sidecar,
    ):
        for number in range(100):
            await sidecar.emit("counts", f"bad {number}")
        await until(lambda: _paused(sidecar))
        died = await _count_at_rest(nats, sidecar)
        assert 3 <= died < 50
        await admin(sidecar, "POST", "actors/counts/print/resume")
        await until(lambda: _has(sidecar, died + 3))


async def test_a_listener_that_leaves_between_rejections_does_not_make_the_actor_whole(nats) -> None:
    actor = {"name": "print", "event": "counts", "max_jobs": 1}
    text = config_text(nats.url, events=[{"name": "counts"}], actors=[actor], dead_letters={"pause_actor_after": 2})
    async with running(text) as sidecar:
        for number in range(3):
            await sidecar.emit("counts", str(number))
        async with listener(sidecar.grpc) as first:
            await first.reject((await first.wait_for(1))[0], "no")
            await first.wait_for(2)  # and hands it back by leaving
        async with listener(sidecar.grpc) as second:
            await second.reject((await second.wait_for(1))[0], "no")
            assert await until(lambda: _pause_reason(sidecar)) == "2 permanent rejections in a row; the last one: no"
