"""Parts are killed in the middle of the work; nothing that was acknowledged is lost."""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from nats.js import JetStreamContext

from support.daemon import Sidecar, config_text, process, running
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.waiting import until

MAX_JOBS = 32


def config(server: NatsServer, receiver: Receiver, **actor: Any) -> str:
    options = {
        "name": "print", "event": "counts", "url": receiver.url, "max_jobs": MAX_JOBS, "ack_wait": 2,
        "retry": {"delays": [0.05], "jitter": 0},
    }  # fmt: skip
    return config_text(server.url, events=[{"name": "counts"}], actors=[options | actor])


async def fill(nats: NatsServer, count: int) -> None:
    """Store messages for the actor before there is a daemon."""
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
        await jetstream.add_consumer("counts", durable_name="print", ack_policy="explicit", max_ack_pending=1000)
        for number in range(count):
            await jetstream._nc.publish("counts", str(number).encode())
        await until(lambda: _holds(jetstream, count))


async def _holds(jetstream: JetStreamContext, count: int) -> bool:
    return (await jetstream.stream_info("counts")).state.messages == count


async def all_is_settled(nats: NatsServer) -> None:
    async with nats.jetstream() as jetstream:
        await until(lambda: _is_settled(jetstream), timeout_s=30, what="all messages to be settled")


async def _is_settled(jetstream: JetStreamContext) -> bool:
    info = await jetstream.consumer_info("counts", "print")
    return not info.num_pending and not info.num_ack_pending


async def dead_letters(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.stream_info("walnatsd-dead-letters")).state.messages


async def test_a_daemon_that_is_killed_among_10000_messages_loses_none_and_repeats_only_what_was_in_flight(
    nats, receiver, tmp_path
) -> None:
    count = 10_000
    await fill(nats, count)
    async with process(tmp_path, config(nats, receiver)) as daemon:
        await receiver.wait_for(count // 3)
        await daemon.end(signal.SIGKILL)
        handled = len(receiver.received)
        assert handled < count, "the daemon was faster than the kill"
        await daemon.start()
        await until(lambda: len(set(receiver.bodies)) == count, timeout_s=60, what="all messages to arrive")
        await all_is_settled(nats)
    assert len(receiver.received) - count <= MAX_JOBS
    assert await dead_letters(nats) == 0


class Emitters:
    """Emit numbers, again with the same uid where it is not known whether one was stored."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._numbers = itertools.count()
        self.acknowledged: set[bytes] = set()
        self.refused = 0

    async def run(self) -> None:
        while True:
            payload = str(next(self._numbers))
            while not await self._emit(payload):
                self.refused += 1
                await asyncio.sleep(0.01)
            self.acknowledged.add(payload.encode())

    async def _emit(self, payload: str) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            status, answer = await self._sidecar.try_emit("counts", payload, uid=f"uid-{payload}")
            assert status in (200, 201, 503), answer
            return status != 503
        return False


@contextlib.asynccontextmanager
async def emitting(sidecar: Sidecar) -> AsyncIterator[Emitters]:
    emitters = Emitters(sidecar)
    tasks = [asyncio.create_task(emitters.run()) for _ in range(8)]
    try:
        yield emitters
        assert not any(task.done() for task in tasks), "an emitter ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_nats_goes_and_comes_back_twice_while_emitting_and_dispatching_and_all_that_was_acknowledged_arrives(
    nats, receiver, how
) -> None:
    async with running(config(nats, receiver)) as sidecar:
        async with emitting(sidecar) as emitters:
            for _ in range(2):
                so_far = len(emitters.acknowledged)
                await until(lambda so_far=so_far: len(emitters.acknowledged) > so_far + 200)
                await (nats.stop() if how == "stop" else nats.kill())
                await until(lambda: _is_not_ready(sidecar))
                await nats.start()
                await until(sidecar.is_ready)
            so_far = len(emitters.acknowledged)
            await until(lambda: len(emitters.acknowledged) > so_far + 200)
        await until(lambda: emitters.acknowledged <= set(receiver.bodies), timeout_s=30)
        await all_is_settled(nats)
    assert await dead_letters(nats) == 0


async def _is_not_ready(sidecar: Sidecar) -> bool:
    return not await sidecar.is_ready()


async def test_a_daemon_that_is_killed_while_emitting_has_stored_all_that_it_acknowledged(
    nats, receiver, tmp_path
) -> None:
    async with process(tmp_path, config(nats, receiver)) as daemon:
        async with emitting(daemon.sidecar) as emitters:
            await until(lambda: len(emitters.acknowledged) > 300)
            daemon.send_signal(signal.SIGKILL)
            await until(lambda: emitters.refused > 0)
        await daemon.wait()
        await daemon.start()
        await until(lambda: emitters.acknowledged <= set(receiver.bodies), timeout_s=30)


async def test_a_receiver_that_goes_in_the_middle_costs_no_attempt_and_no_message(nats, receiver) -> None:
    count = 300
    release = asyncio.Event()

    async def hold_the_late_ones(_received: Received) -> web.StreamResponse:
        if len(receiver.received) > count // 2:
            await release.wait()
        return web.Response(status=204)

    receiver.answer = hold_the_late_ones
    await fill(nats, count)
    actor = {
        "retry": {"delays": [0.02], "max_attempts": 2},
        "breaker": {"consecutive": 3, "open_for": 0.1, "max_open_for": 0.2},
    }
    async with running(config(nats, receiver, **actor)) as sidecar:
        await receiver.wait_for(count // 2 + 1)
        await receiver.down()  # what it holds is cut off
        unavailable = 'walnatsd_attempts_total{actor="print",event="counts",outcome="unavailable"}'
        await until(lambda: _at_least(sidecar, unavailable, 5))
        release.set()
        await receiver.up()
        await until(lambda: len(set(receiver.bodies)) == count)
        await all_is_settled(nats)
    assert {received.attempt for received in receiver.received} == {1}
    assert len(receiver.received) - count <= MAX_JOBS
    assert await dead_letters(nats) == 0


async def _at_least(sidecar: Sidecar, name: str, value: float) -> bool:
    return (await sidecar.metrics()).get(name, 0) >= value


async def test_a_sidecar_that_is_killed_is_stood_in_for_by_another(nats, receiver, tmp_path) -> None:
    count = 2_000
    await fill(nats, count)
    async with process(tmp_path / "first", config(nats, receiver)) as first, running(config(nats, receiver)):
        await receiver.wait_for(count // 3)
        await first.end(signal.SIGKILL)
        await until(lambda: len(set(receiver.bodies)) == count, timeout_s=30)
        await all_is_settled(nats)
    assert len(receiver.received) - count <= MAX_JOBS
