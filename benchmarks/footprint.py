"""Cases: what a sidecar costs in memory and time while nothing or much happens."""

import asyncio
import time
from typing import Any

import psutil

from benchmarks.case import Bar, Case, Figures, Scale
from benchmarks.dispatching import ACTOR_OPTIONS, PATIENCE_S, release, settled
from benchmarks.sink import Arrivals, sink
from benchmarks.stage import ACTOR, EVENT, Stage

MIB = 1 << 20
IDLE_S = 5.0
SAMPLE_S = 0.2
EVENTS, ACTORS_EACH = 200, 5


async def memory(stage: Stage, scale: Scale) -> Figures:
    """Resident memory: idle, and while a backlog is worked off."""
    arrivals = Arrivals()
    await stage.begin_anew()
    async with sink(lambda _body, at: arrivals.note(1, at)) as url:
        actor = {"name": ACTOR, "event": EVENT, "url": url} | ACTOR_OPTIONS
        async with stage.daemon(events=[{"name": EVENT}], actors=[actor]) as daemon:
            process = psutil.Process(daemon.pid)
            await asyncio.sleep(IDLE_S)
            idle = process.memory_info().rss / MIB
            arrivals.begin(scale.drained)
            samples: list[float] = []
            await release(stage, daemon, [ACTOR], scale.drained)
            async with asyncio.timeout(PATIENCE_S):
                while not arrivals.done.is_set():
                    if arrivals.count > scale.drained * 0.05:  # by then every buffer has been used
                        samples.append(process.memory_info().rss / MIB)
                    await asyncio.sleep(SAMPLE_S)
            await settled(stage, [ACTOR])
    return {"idle": idle, "most while draining": max(samples), "growth while draining": samples[-1] - samples[0]}


async def many_actors(stage: Stage, _scale: Scale) -> Figures:
    """A thousand actors that have nothing to do."""
    await stage.begin_anew()
    events = [{"name": f"idle-{number}"} for number in range(EVENTS)]
    actors: list[dict[str, Any]] = [
        {"name": f"actor-{number}", "event": event["name"], "url": "http://127.0.0.1:9/"}
        for event in events
        for number in range(ACTORS_EACH)
    ]
    started = time.monotonic()
    async with stage.daemon(events=events, actors=actors) as daemon:
        ready = time.monotonic() - started
        process = psutil.Process(daemon.pid)
        await asyncio.sleep(IDLE_S)
        begin, before = time.monotonic(), sum(process.cpu_times()[:2])
        await asyncio.sleep(2 * IDLE_S)
        busy = 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - begin)
        return {"s until ready": ready, "MiB": process.memory_info().rss / MIB, "% of a core": busy}


CASES = (
    Case(
        "memory",
        memory,
        (Bar("idle", 95, at_most=True), Bar("growth while draining", 10, at_most=True)),
        "MiB",
        once=True,
    ),
    Case(
        "1,000 idle actors",
        many_actors,
        (
            Bar("s until ready", 15, at_most=True),
            Bar("MiB", 200, at_most=True),
            Bar("% of a core", 5, at_most=True),
        ),
        "",
        once=True,
    ),
)
