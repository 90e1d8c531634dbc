"""The way between sidecar and nats-server is bad: cut in mid-message, slow, half-open."""

import asyncio

from faults.scenario import Scenario
from faults.stage import IN_FLIGHT, PATIENCE_S, Form, Stage
from support.waiting import until

FROM_EITHER = (b"HPUB ", b"HMSG ")
"""How a message begins on its way to the server and from there."""
LATENCY_S = 0.1


async def bad_ways(stage: Stage) -> None:
    """Connections to nats-server cut in the middle of a message, delayed, left half-open."""
    nats = await stage.start_nats()
    ways = [await stage.start_proxy(nats) for _ in range(2)]
    for way in ways:
        await stage.start_sidecar(way.url)
    async with stage.load():
        for _ in range(stage.form.rounds):
            way = stage.chance.choice(ways)
            await stage.progress()
            said_by = stage.chance.choice(FROM_EITHER)
            stage.note("connection cut in mid-message", repeats=IN_FLIGHT, why="in flight on a connection that was cut")
            way.cut_within(said_by)
            await until(lambda way=way: not way.is_to_cut, timeout_s=PATIENCE_S, what=f"a {said_by!r} to be cut")
            await stage.progress()
            stage.note(f"{LATENCY_S * 1000:g} ms of latency each way")
            way.latency_s = LATENCY_S
            await asyncio.sleep(stage.form.hold_s)
            way.latency_s = 0.0
            stage.note("connection half-open", repeats=IN_FLIGHT, why="in flight on a connection that was half-open")
            way.forsake()
            await until(lambda way=way: not way.forsaken, timeout_s=PATIENCE_S, what="a sidecar to give it up")
        await stage.progress()
    await stage.settle()


SCENARIOS = [
    Scenario(
        "bad-ways", 2, bad_ways, Form(rounds=1, rate=100, hold_s=1, flow_s=0.5), Form(rounds=8, rate=200, hold_s=5)
    ),
]
