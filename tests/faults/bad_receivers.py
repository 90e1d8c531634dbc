"""One of the actors can't be called, hangs, or answers nonsense: its messages wait for it, and its neighbours' don't."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator

from faults.lone_receiver import LoneReceiver, Manner
from faults.scenario import Scenario
from faults.sidecar import Sidecar
from faults.stage import JOBS, PATIENCE_S, Form, Stage
from support.certificates import Authority
from support.waiting import until

BAD = "mail"
"""The actor that things happen to; it shares its event with one of the others."""
NEIGHBOURS = ("audit", "count")
JOB_TIMEOUT_S = 2
MANNERS: tuple[tuple[Manner, str, str], ...] = (
    ("never", "failed", "no answer within job_timeout"),
    ("garbage", "unavailable", "is not HTTP"),
    ("half an answer", "unavailable", "broke before an answer came"),
    ("nothing", "unavailable", "broke before an answer came"),
    ("errors", "failed", "500"),
)
"""What the actor does, and what is told of it in the log: the outcome, and words of the reason."""
LIVES_S = 5
"""More than the second that certificates count in, and than a busy machine takes to start."""
NAME = "mail.test"
RESOLVES_FROM_A_FILE = """
import pathlib, socket, sys
sys.modules["uvloop"] = None  # it asks the system by itself
ask = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    if host in ({name!r}, {name!r}.encode()):
        host = pathlib.Path({file!r}).read_text()
        if not host:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return ask(host, *arguments, **options)
socket.getaddrinfo = getaddrinfo
import walnatsd.webhook.dialer
walnatsd.webhook.dialer.DNS_TTL_S = 1.0
"""


@contextlib.asynccontextmanager
async def _broken(stage: Stage, what: str, outcome: str, words: str, *, repeats: int = 0) -> AsyncIterator[None]:
    """Within this, the actor is broken. See that why is told, and that its neighbours get all that is theirs meanwhile.

    The body breaks it; afterwards it is as it was left.
    """
    stage.note(what, repeats=repeats, why=f"in flight when this happened: {what}")
    for sidecar in stage.sidecars:
        sidecar.lines.clear()
    async with stage.load():
        yield
        await until(
            lambda: all(_is_told(sidecar, outcome, words) for sidecar in stage.sidecars),
            timeout_s=PATIENCE_S, what=f"{words!r} to be told",
        )  # fmt: skip
        await asyncio.sleep(stage.chance.uniform(0, stage.form.hold_s))
    await until(
        lambda: not stage.ledger.wanted_by(*NEIGHBOURS),
        timeout_s=PATIENCE_S,
        what="the neighbours to have all of theirs",
    )
    if not stage.ledger.wanted_by(BAD):
        stage.complain(f"nothing waits for {BAD}, though this happened: {what}")


def _is_told(sidecar: Sidecar, outcome: str, words: str) -> bool:
    return any(
        line.get("message") == "attempt"
        and (line["actor"], line["outcome"]) == (BAD, outcome)
        and words in line["reason"]
        for line in sidecar.lines
    )


async def _recovers(stage: Stage) -> None:
    """See that it gets what has waited for it, and what comes."""
    async with stage.load():
        await stage.progress()
    await until(
        lambda: not stage.ledger.wanted_by(BAD), timeout_s=PATIENCE_S, what=f"{BAD} to have all of its messages"
    )


async def bad_receivers(stage: Stage) -> None:
    """One of three actors dies, hangs, answers slowly, with errors, with garbage, half or not at all, and recovers."""
    nats = await stage.start_nats()
    receiver = LoneReceiver(BAD, stage.ledger)
    await receiver.up()
    stage.resources.push_async_callback(receiver.down)
    mail = {BAD: {"url": f"http://127.0.0.1:{receiver.port}/{BAD}", "job_timeout": JOB_TIMEOUT_S}}
    for _ in range(2):
        await stage.start_sidecar(nats.url, actors=mail)
    for _ in range(stage.form.rounds):
        await _recovers(stage)
        receiver.manner, receiver.slow_s = "slowly", JOB_TIMEOUT_S / 8
        stage.note("it answers slowly")
        async with stage.load():
            await stage.progress()
        await until(lambda: not stage.ledger.wanted_by(*NEIGHBOURS), timeout_s=PATIENCE_S, what="the neighbours")
        receiver.manner = "well"
        await _recovers(stage)
        async with _broken(stage, "it dies", "unavailable", "can't connect", repeats=2 * JOBS):
            await receiver.down()
        await receiver.up()
        await _recovers(stage)
        for manner, outcome, words in stage.chance.sample(MANNERS, len(MANNERS)):
            async with _broken(stage, f"it answers: {manner}", outcome, words):
                receiver.manner = manner
            receiver.manner = "well"
            await _recovers(stage)
    await stage.settle()


async def name_fails(stage: Stage) -> None:
    """The name of an actor can't be resolved for a while, and then leads to another address."""
    nats = await stage.start_nats()
    receiver, file = LoneReceiver(BAD, stage.ledger), stage.folder / "address"
    here, there = "127.0.0.1", "127.0.0.2"
    await receiver.up(here)
    stage.resources.push_async_callback(receiver.down)
    file.write_text(here)
    mail = {BAD: {"url": f"http://{NAME}:{receiver.port}/{BAD}", "job_timeout": JOB_TIMEOUT_S}}
    prelude = RESOLVES_FROM_A_FILE.format(name=NAME, file=str(file))
    for _ in range(2):
        await stage.start_sidecar(nats.url, actors=mail, prelude=prelude)
    for _ in range(stage.form.rounds):
        await _recovers(stage)
        async with _broken(
            stage, "its name fails and its address is dead", "unavailable", "name resolution", repeats=2 * JOBS
        ):
            file.write_text("")
            await receiver.down()
        here, there = there, here
        await receiver.up(here)
        file.write_text(here)
        await _recovers(stage)
    await stage.settle()


async def certificate_expires(stage: Stage) -> None:
    """The certificate of an actor expires while messages flow, and is renewed."""
    nats = await stage.start_nats()
    receiver, authority = LoneReceiver(BAD, stage.ledger), Authority(stage.folder)
    pair = authority.pair(BAD)
    await receiver.up(tls=pair.server())
    stage.resources.push_async_callback(receiver.down)
    mail = {
        BAD: {
            "url": f"https://127.0.0.1:{receiver.port}/{BAD}", "job_timeout": JOB_TIMEOUT_S, "tls": {"ca_file": authority.ca},
        }
    }  # fmt: skip
    for _ in range(2):
        await stage.start_sidecar(nats.url, actors=mail)
    for _ in range(stage.form.rounds):
        await _recovers(stage)
        await receiver.down()
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=LIVES_S)
        pair.replace(authority.issue(expires=expires))
        await receiver.up(tls=pair.server())
        stage.note(
            "it gets a certificate that lives for seconds", repeats=2 * JOBS, why="in flight when it was restarted"
        )
        async with _broken(
            stage, "its certificate expires", "unavailable", "certificate has expired", repeats=2 * JOBS
        ):
            await until(lambda: dt.datetime.now(dt.UTC) > expires, timeout_s=2 * LIVES_S)  # noqa: B023 - waited for here
            await receiver.hang_up()  # who is connected stays so, however old the certificate
        pair.replace(authority.issue())
        await receiver.down()
        await receiver.up(tls=pair.server())
        await _recovers(stage)
    await stage.settle()


SCENARIOS = [
    Scenario(
        "bad-receivers", 4, bad_receivers,
        Form(rounds=1, rate=100, hold_s=0, flow_s=0.5), Form(rounds=5, rate=200, hold_s=5),
    ),
    Scenario("name-fails", 4, name_fails, Form(rounds=1, rate=100, hold_s=0, flow_s=0.5), Form(rounds=5, rate=200, hold_s=5)),
    Scenario(
        "certificate-expires", 4, certificate_expires,
        Form(rounds=1, rate=100, hold_s=0, flow_s=0.5), Form(rounds=5, rate=200, hold_s=5),
    ),
]  # fmt: skip
