"""Cases: dispatch."""

import asyncio
import statistics
import time
from typing import Any

from benchmarks.case import Bar, Case, Figures, Scale
from benchmarks.sink import Arrivals, sink
from benchmarks.stage import ACTOR, EVENT, Stage
from support.actors import unsettled
from support.daemon import Process, Sidecar
from support.waiting import until

PATIENCE_S = 600.0
IN_FLIGHT = 64
FAN = 50
PACE_S = 0.005
LOOP = 20_000
"""Turns of a loop that does nothing: about a millisecond."""

ACTOR_OPTIONS: dict[str, Any] = {"max_jobs": IN_FLIGHT, "max_ack_pending": 1000}


async def single(stage: Stage, scale: Scale) -> Figures:
    """A backlog worked off with one request, call or handler for each message."""
    return {
        "webhooks": await _webhooks(stage, scale.messages),
        "listen": await _listen(stage, scale.messages),
        "walnats": await _consume(stage, "walnats", scale.messages),
        "walnats, batch 16": await _consume(stage, "walnats-16", scale.messages),
        "faststream": await _consume(stage, "faststream", scale.messages),
    }


async def batches(stage: Stage, scale: Scale) -> Figures:
    """A backlog worked off in requests of 100 messages."""
    batch = {"max_size": 100, "max_bytes": "1MiB", "max_wait": 0.05}
    return {
        "batches": await _webhooks(stage, scale.messages * 4, batch=batch),
        "walnats, batch 16": await _consume(stage, "walnats-16", scale.messages),
    }


async def fan_out(stage: Stage, scale: Scale) -> Figures:
    """One event with many actors beside one with one, for about the same number of deliveries."""
    alone = await _webhooks(stage, scale.messages)
    together = await _webhooks(stage, max(100, scale.messages // FAN), actors=FAN)
    return {"µs, 1 actor": 1e6 / alone, f"µs, {FAN} actors": 1e6 / together}


async def _consume(stage: Stage, kind: str, count: int) -> float:
    await stage.begin_anew(ACTOR)
    await stage.fill(count)
    return (await stage.load("benchmarks.loads.consume", kind, stage.nats.url, count))["per_s"]


async def _webhooks(stage: Stage, count: int, *, actors: int = 1, **options: Any) -> float:
    arrivals = Arrivals()
    is_batch = "batch" in options

    def received(body: bytes, at: float) -> None:
        arrivals.note(body.count(b'"walnatssequence"') if is_batch else 1, at)

    names = [f"{ACTOR}-{number}" for number in range(actors)]
    await stage.begin_anew()
    async with sink(received) as url:
        declared = [{"name": name, "event": EVENT, "url": url} | ACTOR_OPTIONS | options for name in names]
        async with stage.daemon(events=[{"name": EVENT}], actors=declared) as daemon:
            arrivals.begin(count * actors)
            await release(stage, daemon, names, count)
            async with asyncio.timeout(PATIENCE_S):
                await arrivals.done.wait()
            await settled(stage, names)
    return arrivals.per_s


async def _listen(stage: Stage, count: int) -> float:
    """The daemon gives what waits to a listener that comes late."""
    await stage.begin_anew(ACTOR)
    await stage.fill(count)
    declared = [{"name": ACTOR, "event": EVENT} | ACTOR_OPTIONS]
    async with stage.daemon(events=[{"name": EVENT}], actors=declared) as daemon:
        assert daemon.sidecar is not None
        result = await stage.load("benchmarks.loads.consume", "listen", daemon.sidecar.grpc, count)
        await settled(stage, [ACTOR])
    return result["per_s"]


async def release(stage: Stage, daemon: Process, names: list[str], count: int) -> None:
    """Let a backlog build up before anybody works it off."""
    assert daemon.sidecar is not None
    for name in names:
        await _post(daemon.sidecar, name, "pause")
    await stage.fill(count)
    for name in names:
        await _post(daemon.sidecar, name, "resume")


async def _post(sidecar: Sidecar, actor: str, what: str) -> None:
    async with sidecar.session.post(f"http://{sidecar.admin}/admin/v1/actors/{EVENT}/{actor}/{what}") as answer:
        assert answer.status == 200, await answer.text()


async def settled(stage: Stage, names: list[str]) -> None:
    """See that nothing is left: what was measured was acknowledged too."""
    for name in names:

        async def is_settled(actor: str = name) -> bool:
            return not await unsettled(stage.jetstream, EVENT, actor)

        await until(is_settled, timeout_s=PATIENCE_S)


async def latency(stage: Stage, scale: Scale) -> Figures:
    """From the emit to the actor, at 200 a second; beside it, how evenly the machine runs a program that does nothing else."""
    count = int(scale.seconds * 2 / PACE_S)
    here = await _latency_here(stage, count)
    peer = await stage.load("benchmarks.loads.latency", stage.nats.url, count)
    return here | peer | _bare_loop(scale.seconds)


def _bare_loop(seconds: float) -> Figures:
    """Time a loop that waits for nobody. Where its p99 is far above its p50, the machine is busy with something else."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        for _ in range(LOOP):
            pass
        took.append(time.perf_counter() - begin)
    return {
        "bare loop p50": statistics.median(took) * 1e3,
        "bare loop p99": statistics.quantiles(took, n=100)[98] * 1e3,
    }


async def _latency_here(stage: Stage, count: int) -> Figures:
    waits: list[float] = []
    arrivals = Arrivals()

    def received(body: bytes, at: float) -> None:
        waits.append(at - float(body))
        arrivals.note(1, at)

    await stage.begin_anew()
    async with sink(received) as url:
        actor = {"name": ACTOR, "event": EVENT, "url": url}
        async with stage.daemon(events=[{"name": EVENT}], actors=[actor]) as daemon:
            assert daemon.sidecar is not None
            arrivals.begin(count)
            begin = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                for number in range(count):
                    await asyncio.sleep(begin + number * PACE_S - time.monotonic())
                    tasks.create_task(daemon.sidecar.emit(EVENT, repr(time.monotonic())))
            async with asyncio.timeout(PATIENCE_S):
                await arrivals.done.wait()
    return {"webhook p50": statistics.median(waits) * 1e3, "webhook p99": statistics.quantiles(waits, n=100)[98] * 1e3}


CASES = (
    Case(
        "dispatch, one at a time",
        single,
        (
            Bar("webhooks", 1.5, "walnats"),
            Bar("webhooks", 0.5, "walnats, batch 16"),
            Bar("listen", 1.0, "walnats, batch 16"),
        ),
    ),
    Case("dispatch, batches of 100", batches, (Bar("batches", 3.5, "walnats, batch 16"),)),
    Case(
        "dispatch, fan-out", fan_out, (Bar(f"µs, {FAN} actors", 1.5, "µs, 1 actor", at_most=True),), "µs per delivery"
    ),
    Case(
        "latency at 200/s",
        latency,
        (Bar("webhook p50", 3.0, "walnats p50", at_most=True), Bar("webhook p99", 5.0, at_most=True)),
        "ms",
    ),
)
