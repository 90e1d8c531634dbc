"""Who stands still notices: an observer marks what it sees with a wrong time, a sidecar calls late."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time

from faults.standstill import NOTED_S, STOOD_STILL, TELLER, TICK_S, Punctuality, StandStill, longest
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


async def test_a_process_that_stands_still_logs_it_when_it_goes_on() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{TELLER}\nprint('goes', flush=True)\ninput()",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        assert await child.stdout.readline() == b"goes\n"
        before = time.time()
        child.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitpid, child.pid, os.WUNTRACED)
        await asyncio.sleep(BLOCKED_S)
        stopped_until = time.time()
        child.send_signal(signal.SIGCONT)
        assert child.stderr is not None
        async with asyncio.timeout(15):
            async for line in child.stderr:
                told = json.loads(line)
                assert told["message"] == STOOD_STILL
                found = StandStill(told["until"], told["for_s"])
                if longest([found], since=before, until=stopped_until) and found.for_s >= BLOCKED_S - TICK_S:
                    return
        raise AssertionError("it ended without a word")
    finally:
        child.kill()
        await child.communicate()


def test_the_longest_that_reaches_into_a_time_is_found() -> None:
    before, early, late, after = (
        StandStill(10.0, 5.0), StandStill(13.0, 2.0), StandStill(21.0, 3.0), StandStill(33.0, 7.0)
    )  # fmt: skip
    stand_stills = [before, early, late, after]
    assert longest(stand_stills, since=12.0, until=20.0) == late
    assert longest(stand_stills, since=12.0, until=17.0) == early
    assert longest(stand_stills, since=14.0, until=17.0) is None
