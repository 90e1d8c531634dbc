"""Clocks beside the walnats library: its actors see our ticks, its clock feeds our actors."""

import asyncio
import datetime as dt
from typing import Any

import pytest
import walnats
from walnats.decorators import filter_time

from support.daemon import config_text, running
from support.receiver import Receiver
from support.waiting import until
from walnatsd.payload.times import tick_text

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # walnats' emit

PASSED = walnats.Event("second-passed", dt.datetime)
EVERY_SECOND = {"event": "second-passed", "every": "1s"}
THIS_YEAR = dt.datetime.now(dt.UTC).year


def config(url: str, receiver: Receiver | None = None, *clocks: dict[str, Any], **options: Any) -> str:
    actor = {"name": "look", "event": "second-passed", "url": receiver.url if receiver else ""} | options
    return config_text(url, events=[{"name": "second-passed"}], actors=[actor] if receiver else [], clocks=list(clocks))


def test_a_tick_has_the_bytes_that_walnats_writes_for_the_same_time() -> None:
    at = 1_795_000_000
    assert tick_text(at, dt.UTC) == PASSED.encode(dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=None))


async def test_a_walnats_actor_with_filter_time_sees_our_ticks(nats) -> None:
    seen: list[dt.datetime] = []
    filtered: list[dt.datetime] = []
    actors = walnats.Actors(
        walnats.Actor("see", PASSED, filter_time(year=[THIS_YEAR, THIS_YEAR + 1])(seen.append)),
        walnats.Actor("filter", PASSED, filter_time(year=2022)(filtered.append)),
    )
    async with running(config(nats.url, None, EVERY_SECOND)), actors.connect(nats.url) as walnats_side:
        await walnats_side.register()
        listening = asyncio.create_task(walnats_side.listen())
        await until(lambda: len(seen) >= 3)
        listening.cancel()
        await asyncio.wait([listening])
    assert not filtered
    assert len(set(seen)) == len(seen)
    for tick in seen:
        assert tick.tzinfo is None
        assert tick.microsecond == 0
        assert abs(dt.datetime.now(dt.UTC).replace(tzinfo=None) - tick) < dt.timedelta(minutes=1)


@pytest.mark.parametrize(("years", "comes"), [([THIS_YEAR, THIS_YEAR + 1], True), ([2022], False)])
async def test_a_walnats_clock_feeds_an_actor_with_match_time(nats, receiver, years: list[int], comes: bool) -> None:
    clock = walnats.Clock(event=PASSED, period=1)
    events = walnats.Events(PASSED)
    async with (
        running(config(nats.url, receiver, match_time={"year": years})) as sidecar,
        events.connect(nats.url) as walnats_side,
    ):
        await clock.run(walnats_side, burst=True)
        if comes:
            [received] = await receiver.wait_for(1)
            assert dt.datetime.fromisoformat(received.body.decode()).tzinfo is None
        else:
            await until(lambda: skipped(sidecar))
            assert receiver.received == []


async def skipped(sidecar: Any) -> bool:
    return any("skipped" in name and value for name, value in (await sidecar.metrics()).items())


async def test_one_event_takes_ticks_of_both(nats, receiver) -> None:
    """A move from one to the other need not be made in one step: the uids are not alike, nor is anything lost."""
    clock = walnats.Clock(event=PASSED, period=1)
    async with (
        running(config(nats.url, receiver, EVERY_SECOND)),
        walnats.Events(PASSED).connect(nats.url) as walnats_side,
    ):
        await clock.run(walnats_side, burst=True)
        await until(lambda: {is_ours(each.headers["walnats-uid"]) for each in receiver.received} == {True, False})


def is_ours(uid: str) -> bool:
    return uid.startswith("clock:second-passed:")
