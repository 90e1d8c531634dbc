"""The pulse: who is told that a job is in progress, and when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from support.waiting import until
from walnatsd.dispatch.pulse import Pulse


class Job:
    """A delivery as the pulse sees it."""

    def __init__(self, pulsed_at: float = 0.0) -> None:
        self.pulses = 0
        self.pulsed_at = pulsed_at

    def progress(self) -> None:
        self.pulses += 1


def held(*jobs: Job) -> Any:
    """What an actor holds."""
    return {("counts", number): job for number, job in enumerate(jobs)}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_delivery_is_pulsed_three_times_per_ack_wait() -> None:
    clock, job = Clock(), Job(100)
    pulse = Pulse(clock)
    pulse.join(held(job), ack_wait_s=15)
    seen = []
    for now in range(101, 131):
        clock.now = float(now)
        pulse.beat()
        seen.append(job.pulses)
    assert seen[:15] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert job.pulses == 6


def test_each_actor_has_its_own_period_and_none_after_it_holds_nothing() -> None:
    clock, quick, slow = Clock(), Job(100), Job(100)
    pulse, of_quick = Pulse(clock), held(quick)
    pulse.join(of_quick, ack_wait_s=3)
    pulse.join(held(slow), ack_wait_s=30)
    for _ in range(10):
        clock.now += 1
        pulse.beat()
    assert (quick.pulses, slow.pulses) == (10, 1)
    pulse.leave(of_quick)
    pulse.leave(of_quick)
    clock.now += 10
    pulse.beat()
    assert (quick.pulses, slow.pulses) == (10, 2)


def test_what_is_taken_later_is_pulsed_later_and_what_is_settled_no_more() -> None:
    clock, first, second = Clock(), Job(100), Job(104)
    pulse, jobs = Pulse(clock), held(first)
    pulse.join(jobs, ack_wait_s=15)
    clock.now = 104
    jobs["counts", 7] = second
    clock.now = 105
    pulse.beat()
    assert (first.pulses, second.pulses) == (1, 0)
    del jobs["counts", 0]
    clock.now = 110
    pulse.beat()
    assert (first.pulses, second.pulses) == (1, 1)


def test_a_late_ticker_pulses_once_and_does_not_catch_up() -> None:
    clock, job = Clock(), Job(100)
    pulse = Pulse(clock)
    pulse.join(held(job), ack_wait_s=3)
    clock.now += 60
    pulse.beat()
    pulse.beat()
    assert job.pulses == 1


@contextlib.asynccontextmanager
async def ticking(pulse: Pulse) -> AsyncIterator[None]:
    ticker = asyncio.create_task(pulse.run())
    try:
        yield
    finally:
        ticker.cancel()
        await asyncio.wait([ticker])


async def test_an_idle_ticker_wakes_up_for_the_first_delivery() -> None:
    clock = asyncio.get_running_loop().time
    pulse, job = Pulse(clock), Job(clock())
    async with ticking(pulse):
        await asyncio.sleep(0)
        pulse.join(held(job), ack_wait_s=0.15)
        await until(lambda: job.pulses >= 2, timeout_s=5)


async def test_a_patient_delivery_does_not_let_an_impatient_one_wait_for_its_tick() -> None:
    """The ticker slept a tenth of the longer period, while NATS gave the impatient delivery to another sidecar."""
    clock = asyncio.get_running_loop().time
    pulse, patient, impatient = Pulse(clock), Job(clock()), Job(clock())
    async with ticking(pulse):
        pulse.join(held(patient), ack_wait_s=3600)
        await asyncio.sleep(0.01)  # the ticker sleeps two minutes now
        pulse.join(held(impatient), ack_wait_s=0.15)
        await until(lambda: impatient.pulses >= 2, timeout_s=5)
    assert patient.pulses == 0
