"""An actor that rejects everything is broken, and not its messages: it is paused."""

from aiohttp import web

from support.admin import actor_status, admin
from support.buried import letters
from support.daemon import config_text, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.receiver import Received, Receiver
from support.waiting import until


def config(nats: NatsServer, receiver: Receiver) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "max_jobs": 1}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor], dead_letters={"pause_actor_after": 3})


async def refuse_bad(received: Received) -> web.StreamResponse:
    return web.Response(status=422 if received.body.startswith(b"bad") else 204, text="no such parcel")


async def test_rejections_in_a_row_pause_the_actor_and_keep_its_messages(nats, receiver) -> None:
    receiver.answer = refuse_bad
    async with running(config(nats, receiver)) as sidecar:
        for number in range(10):
            await sidecar.emit("counts", f"bad {number}")
        actor = await until(lambda: _paused(sidecar))
        assert actor["pause_reason"] == "3 permanent rejections in a row; the last one: 422: no such parcel"
        died = len(await letters(sidecar))
        assert died in (3, 4)  # one more may have been on its way
        assert actor["pending"] + actor["ack_pending"] == 10 - died
        await admin(sidecar, "POST", "actors/counts/print/resume")
        await until(lambda: _has(sidecar, died + 3))
        await until(lambda: _paused(sidecar))
        assert len(await letters(sidecar)) in (died + 3, died + 4)


async def _paused(sidecar) -> dict[str, object]:
    actor = await actor_status(sidecar, "print")
    return actor if actor["paused"] else {}


async def _has(sidecar, count: int) -> bool:
    return len(await letters(sidecar)) >= count


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
        for number in range(6):
            await sidecar.emit("counts", f"bad {number}")
        await until(lambda: _paused(sidecar))
        died = len(await letters(sidecar))
        assert died in (3, 4)
        await admin(sidecar, "POST", "actors/counts/print/resume")
        await until(lambda: _has(sidecar, 6))
