"""A long time at half of what the machine can do, with faults at random; what must not grow is measured."""

import asyncio
import random
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from faults.bad_ways import FROM_EITHER
from faults.receivers import always, hang_up, slowly
from faults.scenario import Scenario
from faults.sidecar import Sidecar
from faults.stage import IN_FLIGHT, PATIENCE_S, Form, Stage
from support.nats_server import NatsServer
from support.proxy import Proxy
from support.waiting import until

SLOW_S = 0.02
"""How long the slow actor takes here, at most: it must not be what decides the highest rate."""
CALLERS = 32
MEASURED_S = 5.0
"""How long the highest rate is measured."""
SAMPLE_S = 1.0
PAUSE = (0.2, 0.8)
"""Between two faults, as a share of the longest time for which something stays broken."""
JUDGED_FROM_S = 120.0
"""A shorter run is over before connections and caches are what they come to be."""
MOST_GROWTH = {"memory MB": 10.0, "file descriptors": 8.0, "tasks": 16.0}
"""How much more, as a median, there may be in the last quarter than in the second one; the first is for warming up."""


@dataclass(frozen=True)
class Sample:
    """What a sidecar takes up at one moment."""

    memory_mb: float
    descriptors: float
    tasks: float


@dataclass(frozen=True)
class World:
    """What can be broken. The first sidecar lives through everything and is measured; the second one may be killed."""

    stage: Stage
    nats: NatsServer
    ways: list[Proxy]

    @property
    def some_seconds(self) -> float:
        return self.stage.chance.uniform(0.2, self.stage.form.hold_s)


async def end_sidecar(world: World) -> None:
    sidecar = world.stage.sidecars[1]
    kind = world.stage.chance.choice((signal.SIGKILL, signal.SIGTERM))
    world.stage.note_kill(sidecar, kind)
    await sidecar.end(kind)
    await sidecar.start(ready=False)


async def restart_nats(world: World) -> None:
    in_flight, why, away_s = IN_FLIGHT * 2, "in flight when nats-server ended", world.some_seconds
    if world.stage.chance.random() < 0.5:
        world.stage.note("SIGKILL of nats-server", repeats=in_flight, why=why)
        await world.stage.kill_nats(world.nats, away_s)
    else:
        world.stage.note("SIGTERM of nats-server", repeats=in_flight, why=why)
        await world.nats.stop()
        await asyncio.sleep(away_s)
        await world.nats.start()


async def freeze_nats(world: World) -> None:
    world.stage.note("SIGSTOP of nats-server", repeats=IN_FLIGHT * 2, why="in flight when nats-server stood still")
    async with world.nats.frozen():
        await asyncio.sleep(world.some_seconds)


async def cut(world: World) -> None:
    world.stage.note("connection cut in mid-message", repeats=IN_FLIGHT, why="in flight on a connection that was cut")
    way = world.stage.chance.choice(world.ways)
    way.cut_within(world.stage.chance.choice(FROM_EITHER))
    await until(lambda: not way.is_to_cut, timeout_s=PATIENCE_S, what="a message to be cut")


async def forsake(world: World) -> None:
    world.stage.note("connection half-open", repeats=IN_FLIGHT, why="in flight on a connection that was half-open")
    way = world.stage.chance.choice(world.ways)
    way.forsake()
    await until(lambda: not way.forsaken, timeout_s=PATIENCE_S, what="a sidecar to give its connection up")


async def delay(world: World) -> None:
    way = world.stage.chance.choice(world.ways)
    world.stage.note("latency on the way to NATS")
    way.latency_s = world.stage.chance.uniform(0.01, 0.1)
    await asyncio.sleep(world.some_seconds)
    way.latency_s = 0.0


async def take_actors_down(world: World) -> None:
    world.stage.note("actors die", repeats=IN_FLIGHT * 2, why="answered by actors that died before it was read")
    await world.stage.receivers.down()
    await asyncio.sleep(world.some_seconds)
    await world.stage.receivers.up()


async def spoil_an_actor(world: World) -> None:
    actor = world.stage.chance.choice(("audit", "count"))
    world.stage.note("an actor answers with errors or hangs up")
    world.stage.receivers.answers[actor] = world.stage.chance.choice((always(500), always(503), hang_up))
    await asyncio.sleep(world.some_seconds)
    del world.stage.receivers.answers[actor]


FAULTS: tuple[Callable[[World], Awaitable[None]], ...] = (
    end_sidecar, restart_nats, freeze_nats, cut, forsake, delay, take_actors_down, spoil_an_actor,
)  # fmt: skip
QUICK_FAULTS = tuple(fault for fault in FAULTS if fault is not forsake)
"""Of a short run, which would be over before it is noticed that nobody is there; `bad-ways` waits for that in any form."""


async def soak(stage: Stage) -> None:
    """Half of the highest rate for a long time, faults at random; memory, file descriptors and tasks stay flat."""
    nats = await stage.start_nats()
    ways = [await stage.start_proxy(nats) for _ in range(2)]
    stage.receivers.answers["mail"] = slowly(lambda: random.uniform(0, SLOW_S))
    for way in ways:
        await stage.start_sidecar(way.url)
    rate = stage.form.rate or await _half_of_the_highest(stage)
    stage.figures["emits a second"] = rate
    samples: list[Sample] = []
    sampling = asyncio.create_task(_sample(stage.sidecars[0], samples))
    faults = FAULTS if stage.form.seconds >= JUDGED_FROM_S else QUICK_FAULTS
    try:
        async with stage.load(rate):
            world, until_ = World(stage, nats, ways), time.monotonic() + stage.form.seconds
            while time.monotonic() < until_:
                await stage.progress(1)
                await stage.chance.choice(faults)(world)
                await asyncio.sleep(stage.form.hold_s * stage.chance.uniform(*PAUSE))
            await until(stage.are_ready, timeout_s=PATIENCE_S, what="the sidecars to be ready again")
            await stage.progress()
        await stage.settle()
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
    _judge(stage, samples)


async def _half_of_the_highest(stage: Stage) -> float:
    """Measure what emitters, NATS, sidecars and actors can do together, and take half of it."""
    started = time.monotonic()
    await stage.emitters().run_fast(MEASURED_S, callers=CALLERS)
    await until(lambda: not stage.ledger.wanting, timeout_s=PATIENCE_S, what="all messages to arrive")
    return round(stage.ledger.acknowledged / (time.monotonic() - started) / 2)


async def _sample(sidecar: Sidecar, samples: list[Sample]) -> None:
    process = psutil.Process(sidecar.pid)
    while True:
        assert sidecar.sidecar is not None
        metrics = await sidecar.sidecar.metrics()
        samples.append(Sample(process.memory_info().rss / 1e6, process.num_fds(), metrics["walnatsd_tasks"]))
        await asyncio.sleep(SAMPLE_S)


def _judge(stage: Stage, samples: list[Sample]) -> None:
    quarter = len(samples) // 4
    for name, of in (
        ("memory MB", lambda sample: sample.memory_mb),
        ("file descriptors", lambda sample: sample.descriptors),
        ("tasks", lambda sample: sample.tasks),
    ):
        early = statistics.median(of(sample) for sample in samples[quarter : 2 * quarter])
        late = statistics.median(of(sample) for sample in samples[-quarter:])
        stage.figures[f"{name} early"], stage.figures[f"{name} late"] = early, late
        if stage.form.seconds >= JUDGED_FROM_S and late - early > MOST_GROWTH[name]:
            stage.complain(f"{name} grew from {early:g} to {late:g}, by more than {MOST_GROWTH[name]:g}")


SCENARIOS = [
    Scenario(
        "soak", 7, soak,
        Form(rounds=0, rate=100, hold_s=1, seconds=6, flow_s=0.5), Form(rounds=0, rate=0, hold_s=10, seconds=600),
    ),
]  # fmt: skip
