"""The one nats-server goes and comes back, or stands still."""

import asyncio

from faults.scenario import Scenario
from faults.stage import IN_FLIGHT, Form, Stage

RESTARTED = "in flight when nats-server ended: redelivered before the sidecar could repeat its ack"
FROZEN = "in flight when nats-server stood still: its ack_wait was over before it read the acks"


async def nats_restarts(stage: Stage) -> None:
    """nats-server stopped and killed under load, and started again."""
    nats = await stage.start_nats()
    for _ in range(2):
        await stage.start_sidecar(nats.url)
    async with stage.load():
        for number in range(stage.form.rounds):
            await stage.progress()
            in_flight, away_s = IN_FLIGHT * len(stage.sidecars), stage.chance.uniform(0, stage.form.hold_s)
            if number % 2:
                stage.note("SIGTERM of nats-server", repeats=in_flight, why=RESTARTED)
                await nats.stop()
                await asyncio.sleep(away_s)
                await nats.start()
            else:
                stage.note("SIGKILL of nats-server", repeats=in_flight, why=RESTARTED)
                await stage.kill_nats(nats, away_s)
        await stage.progress()
    await stage.settle()


async def nats_freezes(stage: Stage) -> None:
    """nats-server held still with SIGSTOP under load, for longer than ack_wait, and released with SIGCONT."""
    nats = await stage.start_nats()
    for _ in range(2):
        await stage.start_sidecar(nats.url)
    async with stage.load():
        for _ in range(stage.form.rounds):
            await stage.progress()
            stage.note("SIGSTOP of nats-server", repeats=IN_FLIGHT * len(stage.sidecars), why=FROZEN)
            async with nats.frozen():
                await asyncio.sleep(stage.form.hold_s)
        await stage.progress()
    await stage.settle()


SCENARIOS = [
    Scenario(
        "nats-restarts", 2, nats_restarts,
        Form(rounds=2, rate=100, hold_s=0.5, flow_s=0.5), Form(rounds=16, rate=200, hold_s=5),
    ),
    Scenario(
        "nats-freezes", 2, nats_freezes,
        Form(rounds=1, rate=100, hold_s=9, flow_s=0.5), Form(rounds=4, rate=200, hold_s=10),
    ),
]  # fmt: skip
