"""What lets sidecars in at nats-server becomes worthless while they run, and is restored: their credentials, its certificate."""

import asyncio
import datetime as dt
from typing import Any

from faults.scenario import Scenario
from faults.sidecar import Sidecar
from faults.stage import IN_FLIGHT, PATIENCE_S, Form, Stage
from support.certificates import Authority
from support.nats_server import nats_server
from support.waiting import until

RIGHT, OTHER = "right", "another"
LIVES_S = 5
"""So long lives a certificate that is to expire."""


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
            async with stage.refusing():
                nats.reload(_options(OTHER))
            for sidecar in stage.sidecars:
                await until(
                    lambda it=sidecar: _says(it, "refuses the credentials"), timeout_s=PATIENCE_S, what="the reason"
                )
            await asyncio.sleep(stage.chance.uniform(0, stage.form.hold_s))
            nats.reload(_options(RIGHT))
            await stage.progress()
    await stage.settle()


async def nats_certificate_expires(stage: Stage) -> None:
    """The certificate of nats-server expires while it runs; it is restarted, and gets a new one."""
    authority = Authority(stage.folder)
    pair = authority.pair("nats")
    options = {"tls": pair.options(), "allow_non_tls": True}  # without it for who looks from outside
    stage.nats = nats = await stage.resources.enter_async_context(nats_server(stage.folder / "nats", options=options))
    for _ in range(2):
        await stage.start_sidecar(nats={"servers": [nats.url], "tls": {"ca_file": authority.ca}}, emit={"timeout": 2})
    async with stage.load():
        for _ in range(stage.form.rounds):
            expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=LIVES_S)
            pair.replace(authority.issue(expires=expires))
            nats.reload(options)
            await stage.progress()
            await until(lambda expires=expires: dt.datetime.now(dt.UTC) > expires, timeout_s=2 * LIVES_S)
            await stage.progress()  # who is connected stays so, however old the certificate
            repeats = IN_FLIGHT * len(stage.sidecars)
            stage.note("its certificate expired, it restarts", repeats=repeats, why="in flight when nats-server ended")
            async with stage.refusing():
                await nats.stop()
                await nats.start()
            for sidecar in stage.sidecars:
                await until(
                    lambda it=sidecar: _says(it, "certificate has expired"), timeout_s=PATIENCE_S, what="the reason"
                )
            await asyncio.sleep(stage.chance.uniform(0, stage.form.hold_s))
            pair.replace(authority.issue())
            nats.reload(options)
            await stage.progress()
    await stage.settle()


async def _says(sidecar: Sidecar, words: str) -> bool:
    """Whether that is why it is not ready."""
    assert sidecar.sidecar is not None
    _, problems = await sidecar.sidecar.readiness()
    return words in problems.get("nats", "")


SCENARIOS = [
    Scenario(
        "credentials-revoked", 5, credentials_revoked,
        Form(rounds=1, rate=100, hold_s=0.5, flow_s=0.5), Form(rounds=8, rate=200, hold_s=8),
    ),
    Scenario(
        "nats-certificate-expires", 4, nats_certificate_expires,
        Form(rounds=1, rate=100, hold_s=0.5, flow_s=0.5), Form(rounds=5, rate=200, hold_s=5),
    ),
]  # fmt: skip
