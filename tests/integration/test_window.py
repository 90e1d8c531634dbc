"""The window at work: how many attempts are in flight follows how the actor copes."""

import asyncio

import pytest
from aiohttp import web

from support.actors import Gauges, fill, one_actor, unsettled
from support.daemon import running
from support.desk import Desk
from support.receiver import Received, ok
from support.waiting import until

PATIENT = {"consecutive": 1000, "min_attempts": 1000}
"""A breaker that stays out of it."""


async def test_the_window_starts_at_four_and_grows_by_one_per_clean_window_up_to_max_jobs(nats, receiver) -> None:
    desk = Desk(receiver)
    async with running(one_actor(nats, receiver, max_jobs=7)) as sidecar, nats.jetstream() as jetstream:
        gauges = Gauges(sidecar)
        assert await gauges.window() == 4
        await fill(jetstream, "counts", 4 + 5 + 6 + 7 + 7)
        for size in (4, 5, 6, 7, 7):
            assert receiver.most_in_progress <= size
            await desk.answer_all(204, when_there_are=size)
        await until(lambda: _none_left(jetstream))
        assert await gauges.window() == 7
    assert receiver.most_in_progress == 7


async def _none_left(jetstream) -> bool:
    return await unsettled(jetstream) == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_a_window_that_is_overloaded_is_halved_once_and_not_below_one(nats, receiver, status) -> None:
    desk = Desk(receiver)
    config = one_actor(nats, receiver, max_jobs=6, breaker=PATIENT)
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 200)
        for size in (4, 5, 6):
            await desk.answer_all(204, when_there_are=size)
        for size in (6, 3, 1, 1):
            await until(lambda size=size: _window_is(sidecar, size))
            await desk.answer_all(status, when_there_are=size)
        desk.open()
        await until(lambda: _none_left(jetstream))


async def _window_is(sidecar, size: int) -> bool:
    return await Gauges(sidecar).window() == size


async def test_timeouts_shrink_the_window_and_it_recovers(nats, receiver) -> None:
    async def hang(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang
    config = one_actor(nats, receiver, max_jobs=6, job_timeout=0.5)
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 40)
        await until(lambda: _window_is(sidecar, 1))
        assert await Gauges(sidecar).gate() == "open", "a timeout is an answer of a kind; the breaker is for absence"
        receiver.answer = ok
        await until(lambda: _window_is(sidecar, 6))
        await until(lambda: _none_left(jetstream))


async def test_a_500_is_no_overload(nats, receiver) -> None:
    desk = Desk(receiver)
    async with running(one_actor(nats, receiver, max_jobs=5)) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 9)
        await desk.answer_all(500, when_there_are=4)
        await until(lambda: len(desk.waiting) == 5)
        assert await Gauges(sidecar).window() == 5
        desk.open()
        await until(lambda: _none_left(jetstream))
