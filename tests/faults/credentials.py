"""The credentials of the sidecars at nats-server are revoked while they run, and restored."""

import asyncio
from typing import Any

from faults.scenario import Scenario
from faults.stage import IN_FLIGHT, PATIENCE_S, Form, Sidecar, Stage
from support.nats_server import nats_server
from support.waiting import until

RIGHT, OTHER = "right", "another"


def _options(password: str) -> dict[str, Any]:
    # who looks from outside gives none
    users = [{"user": "sidecar", "password": password}, {"user": "observer", "password": OTHER}]
    return {"authorization": {"users": users}, "no_auth_user": "observer"}


async def credentials_revoked(stage: Stage) -> None:
    """The credentials of the sidecars revoked under load, and restored."""
    stage.nats = nats = await stage.resources.enter_async_context(
        nats_server(stage.folder / "nats", options=_options(RIGHT))
    )
    secret = stage.folder / "password"
    secret.write_text(RIGHT)
    for _ in range(2):
        await stage.start_sidecar(
            nats={"servers": [nats.url], "user": "sidecar", "password": {"file": str(secret)}}, emit={"timeout": 2}
        )
    async with stage.load():
        for _ in range(stage.form.rounds):
            await stage.progress()
            repeats = IN_FLIGHT * len(stage.sidecars)
            stage.note("credentials revoked", repeats=repeats, why="in flight when the credentials were revoked")
            refusals = stage.ledger.refusals
            nats.reload(_options(OTHER))
            await until(
                lambda refusals=refusals: stage.ledger.refusals > refusals,
                timeout_s=PATIENCE_S, what="emits to be refused",
            )  # fmt: skip
            for sidecar in stage.sidecars:
                await until(lambda it=sidecar: _says_why(it), timeout_s=PATIENCE_S, what="the reason to be told")
            await asyncio.sleep(stage.chance.uniform(0, stage.form.hold_s))
            nats.reload(_options(RIGHT))
            await stage.progress()
    await stage.settle()


async def _says_why(sidecar: Sidecar) -> bool:
    assert sidecar.sidecar is not None
    _, problems = await sidecar.sidecar.readiness()
    return "refuses the credentials" in problems.get("nats", "")


SCENARIOS = [
    Scenario(
        "credentials-revoked", 5, credentials_revoked,
        Form(rounds=1, rate=100, hold_s=0.5), Form(rounds=8, rate=200, hold_s=8),
    ),
]  # fmt: skip
