"""An observer that stands still notices, for it marks what it sees with a wrong time."""

import asyncio
import contextlib
import time

from faults.standstill import NOTED_S, TICK_S, Punctuality, StandStill, longest
from support.waiting import until

BLOCKED_S = 4 * (NOTED_S + TICK_S)


async def test_a_loop_that_is_blocked_is_noticed_with_when_and_for_how_long() -> None:
    punctuality = Punctuality()
    watching = asyncio.create_task(punctuality.watch())
    try:
        await asyncio.sleep(0)  # it watches
        before = time.time()
        time.sleep(BLOCKED_S)  # noqa: ASYNC251 - this is what it is about
        blocked_until = time.time()
        found = await until(lambda: longest(punctuality.stand_stills, since=before, until=blocked_until))
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    assert found.for_s >= BLOCKED_S - TICK_S
    assert found.until >= blocked_until


def test_the_longest_that_reaches_into_a_time_is_found() -> None:
    before, early, late, after = (
        StandStill(10.0, 5.0), StandStill(13.0, 2.0), StandStill(21.0, 3.0), StandStill(33.0, 7.0)
    )  # fmt: skip
    stand_stills = [before, early, late, after]
    assert longest(stand_stills, since=12.0, until=20.0) == late
    assert longest(stand_stills, since=12.0, until=17.0) == early
    assert longest(stand_stills, since=14.0, until=17.0) is None
