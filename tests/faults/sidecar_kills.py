"""Sidecars are ended again and again, hard and soft, while two of them share the actors."""

import signal

from faults.scenario import Scenario
from faults.stage import Form, Stage

KINDS = (signal.SIGKILL, signal.SIGTERM)


async def sidecar_kills(stage: Stage) -> None:
    """SIGKILL and SIGTERM of sidecars under load, two of which share the actors."""
    nats = await stage.start_nats()
    for _ in range(2):
        await stage.start_sidecar(nats.url)
    async with stage.load():
        for number in range(stage.form.rounds):
            await stage.progress()
            sidecar = stage.chance.choice(stage.sidecars)
            kind = KINDS[number % len(KINDS)]
            stage.note_kill(sidecar, kind)
            code = await sidecar.end(kind)
            if kind is signal.SIGTERM and code:
                stage.complain(f"{sidecar.name} ended with {code} when it was asked to stop")
            await stage.progress()  # the other one goes on alone
            await sidecar.start()
        await stage.progress()
    await stage.settle()


SCENARIOS = [
    Scenario(
        "sidecar-kills",
        1,
        sidecar_kills,
        Form(rounds=2, rate=100, hold_s=0, flow_s=0.5),
        Form(rounds=30, rate=200, hold_s=0),
    )
]
