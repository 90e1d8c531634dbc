"""An actor that asked for a rest gets it, and no longer one than it asked for."""

import time

import pytest
from aiohttp import web

from support.actors import Gauges, fill, one_actor, unsettled
from support.daemon import process, running
from support.desk import Desk
from support.receiver import Received
from support.waiting import until


async def _settled(jetstream) -> bool:
    return await unsettled(jetstream) == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_nothing_starts_before_the_retry_after_is_over_and_what_is_in_flight_may_end(
    nats, receiver, status
) -> None:
    desk = Desk(receiver)
    held_at: list[float] = []

    async def hold_the_actor(_received: Received) -> web.StreamResponse:
        held_at.append(time.monotonic())
        return web.Response(status=status, headers={"Retry-After": "1"})

    async with running(one_actor(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        await sidecar.emit("counts", "1")
        await until(lambda: len(desk.waiting) == 1)
        receiver.answer = hold_the_actor
        await sidecar.emit("counts", "2")
        await receiver.wait_for(2)
        desk.open()
        await until(lambda: _is_held(sidecar))
        assert 0 < await Gauges(sidecar).held_s() <= 1
        await fill(jetstream, "counts", 5)
        await receiver.wait_for(3)
        assert time.monotonic() - held_at[0] > 0.95
        await until(lambda: _settled(jetstream))
    assert len(held_at) == 1
    assert len(receiver.received) == 8


async def _is_held(sidecar) -> bool:
    return await Gauges(sidecar).gate() == "held"


async def test_a_message_that_waited_for_a_slot_does_not_start_when_its_actor_has_asked_for_a_rest_meanwhile(
    nats, receiver
) -> None:
    """Only messages that came later were held back; the one in line for a slot of the sidecar started at once."""

    async def hold_the_actor(_received: Received) -> web.StreamResponse:
        first = len(receiver.received) == 1
        if first:
            await until(lambda: _waits_for_slot(sidecar))
        return web.Response(status=503 if first else 204, headers={"Retry-After": "1"})

    receiver.answer = hold_the_actor
    async with running(one_actor(nats, receiver) + "max_jobs: 1\n") as sidecar, nats.jetstream() as jetstream:
        began = time.monotonic()
        await fill(jetstream, "counts", 2)
        await receiver.wait_for(2)
        assert time.monotonic() - began > 0.95
        await until(lambda: _settled(jetstream))


async def _waits_for_slot(sidecar) -> bool:
    samples = await sidecar.metrics()
    return samples["walnatsd_slots_waiting"] == 1 and samples["walnatsd_slots_free"] == 0


async def test_a_rate_limited_actor_goes_on_as_soon_as_it_may(nats, receiver, tmp_path) -> None:
    """The daemon's own event loop counts whole milliseconds, so the timer came early and nobody looked for 5 s."""
    config = one_actor(nats, receiver, rate_limit={"jobs": 1, "period": 0.05})
    async with process(tmp_path / "daemon", config), nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 20)
        await receiver.wait_for(20, timeout_s=20)


async def test_a_rate_limited_actor_says_so_and_holds_nothing_back_from_others(nats, receiver) -> None:
    config = one_actor(nats, receiver, rate_limit={"jobs": 3, "period": 60})
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 10)

        async def is_rate_limited() -> bool:
            return await Gauges(sidecar).gate() == "rate-limited"

        await until(is_rate_limited)
        await until(lambda: _only_waiting(jetstream, 7))
    assert len(receiver.received) == 3


async def _only_waiting(jetstream, count: int) -> bool:
    """Whether so many messages wait in the stream and none is in anybody's hands."""
    info = await jetstream.consumer_info("counts", "print")
    return info.num_pending == count and not info.num_ack_pending and not info.num_waiting
