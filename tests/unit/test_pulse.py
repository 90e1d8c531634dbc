"""The pulse: who is told that a job is in progress, and when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from support.waiting import until
from walnatsd.dispatch.pulse import Pulse


class Job:
    """A delivery as the pulse sees it."""

    def __init__(self) -> None:
        self.pulses = 0

    def progress(self) -> None:
        self.pulses += 1


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_delivery_is_pulsed_three_times_per_ack_wait() -> None:
    clock, job = Clock(), Job()
    pulse = Pulse(clock)
    pulse.keep(job, ack_wait_s=15)  # type: ignore[arg-type]
    seen = []
    for now in range(101, 131):
        clock.now = float(now)
        pulse.beat()
        seen.append(job.pulses)
    assert seen[:15] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert job.pulses == 6


def test_each_delivery_has_its_own_period_and_none_after_it_is_dropped() -> None:
    clock, quick, slow = Clock(), Job(), Job()
    pulse = Pulse(clock)
    pulse.keep(quick, ack_wait_s=3)  # type: ignore[arg-type]
    pulse.keep(slow, ack_wait_s=30)  # type: ignore[arg-type]
    for _ in range(10):
        clock.now += 1
        pulse.beat()
    assert (quick.pulses, slow.pulses) == (10, 1)
    pulse.drop(quick)  # type: ignore[arg-type]
    pulse.drop(quick)  # type: ignore[arg-type]
    clock.now += 10
    pulse.beat()
    assert (quick.pulses, slow.pulses) == (10, 2)


def test_a_late_ticker_pulses_once_and_does_not_catch_up() -> None:
    clock, job = Clock(), Job()
    pulse = Pulse(clock)
    pulse.keep(job, ack_wait_s=3)  # type: ignore[arg-type]
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
    pulse, job = Pulse(asyncio.get_running_loop().time), Job()
    async with ticking(pulse):
        await asyncio.sleep(0)
        pulse.keep(job, ack_wait_s=0.15)  # type: ignore[arg-type]
        await until(lambda: job.pulses >= 2, timeout_s=5)


async def test_a_patient_delivery_does_not_let_an_impatient_one_wait_for_its_tick() -> None:
    """The ticker slept a tenth of the longer period, while NATS gave the impatient delivery to another sidecar."""
    pulse, patient, impatient = Pulse(asyncio.get_running_loop().time), Job(), Job()
    async with ticking(pulse):
        pulse.keep(patient, ack_wait_s=3600)  # type: ignore[arg-type]
        await asyncio.sleep(0.01)  # the ticker sleeps two minutes now
        pulse.keep(impatient, ack_wait_s=0.15)  # type: ignore[arg-type]
        await until(lambda: impatient.pulses >= 2, timeout_s=5)
    assert patient.pulses == 0
