"""A nats-server that lost its last moment does not know of hand-overs that were under way: they are settled nowhere."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from support.actors import declare, fill, one_actor
from support.daemon import running
from support.nats_server import NatsServer
from support.receiver import Received
from support.waiting import until

COUNT = 6
JOBS = 2


async def forget_hand_overs(nats: NatsServer, before: Path) -> None:
    """Kill the server and put the consumer's file back: what a SIGKILL or a power cut leaves where it was not written yet."""
    await nats.kill()
    consumer = consumer_folder(nats)
    shutil.rmtree(consumer)
    shutil.copytree(before, consumer)
    await nats.start()


def consumer_folder(nats: NatsServer) -> Path:
    [found] = nats.folder.glob("data/jetstream/*/streams/counts/obs/print")
    return found


@pytest.mark.parametrize(("answer", "attempts"), [(204, 1), (422, 1), (500, 2)])
async def test_a_server_that_forgot_what_it_handed_over_does_not_bring_the_actor_to_a_stop(
    nats, receiver, tmp_path, monkeypatch, answer, attempts
) -> None:
    monkeypatch.setattr("walnatsd.broker.delivery.SETTLE_TIMEOUT_S", 0.5)
    release = asyncio.Event()

    async def hold(received: Received) -> web.StreamResponse:
        if len(receiver.received) <= JOBS:
            await release.wait()
            return web.Response(status=answer)
        return web.Response(status=204)

    receiver.answer = hold
    async with nats.jetstream() as jetstream:
        await declare(jetstream, "counts", "print")
        await fill(jetstream, "counts", COUNT)
    await nats.stop()
    shutil.copytree(consumer_folder(nats), tmp_path / "before")
    await nats.start()
    async with running(one_actor(nats, receiver, max_jobs=JOBS, ack_wait=30)) as sidecar:
        await receiver.wait_for(JOBS)
        await forget_hand_overs(nats, tmp_path / "before")
        await until(sidecar.is_ready)
        release.set()  # the acks come to a server that knows nothing of it
        await until(lambda: len(set(receiver.bodies)) == COUNT, timeout_s=40)
        await until(lambda: _is_settled(nats), timeout_s=40)
    seen = Counter(receiver.bodies)
    first = [received.body for received in receiver.received[:JOBS]]
    assert [seen.pop(body) for body in first] == [attempts] * JOBS, "what was settled is not attempted again"
    assert set(seen.values()) == {1}


async def _is_settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
        return not info.num_pending and not info.num_ack_pending
