"""A disk is full for a while: that of the embedded nats-server, that of the spool. A limit on the size of files stands for it."""

import asyncio
import resource

import psutil

from faults.scenario import Scenario
from faults.sidecar import Sidecar
from faults.stage import IN_FLIGHT, PATIENCE_S, Form, Stage
from support.nats_server import NatsServer, free_port
from support.waiting import until

FULL_BYTES = 16 << 10
"""Files don't grow beyond this then; those that are larger don't grow at all."""
SPOOL_BYTES = 100_000
"""The same for the spool, which is to take something before."""


def _limit(sidecar: Sidecar, size: int) -> None:
    """Let no file of a sidecar, its embedded server and servers to come be larger."""
    for process in (psutil.Process(sidecar.pid), *psutil.Process(sidecar.pid).children()):
        process.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def embedded_disk_full(stage: Stage) -> None:
    """The disk of the embedded nats-server full under load, and freed again."""
    port = free_port()
    stage.nats = NatsServer(stage.folder, port=port)
    embedded = {"data_dir": str(stage.folder / "data"), "port": port}
    nats = {"servers": ["nats://127.0.0.1:1"], "embedded": embedded}
    sidecar = await stage.start_sidecar(nats=nats, emit={"timeout": 2})
    async with stage.load():
        for _ in range(stage.form.rounds):
            await stage.progress()
            stage.note("disk full", repeats=IN_FLIGHT, why="in flight when the embedded nats-server was started anew")
            async with stage.refusing():
                _limit(sidecar, FULL_BYTES)
            await asyncio.sleep(stage.chance.uniform(0, stage.form.hold_s))
            _limit(sidecar, resource.RLIM_INFINITY)
            stage.note_forgetting("what was acknowledged could not be written down")
        await stage.progress()
    await stage.settle()


async def spool_disk_full(stage: Stage) -> None:
    """NATS away under load, the disk of the spool full meanwhile, and freed again before NATS is back."""
    nats = await stage.start_nats()
    sidecar = await stage.start_sidecar(
        nats.url, spool={"path": str(stage.folder / "spool.db")}, emit={"timeout": 2, "max_in_flight": 200}
    )
    async with stage.load():
        for _ in range(stage.form.rounds):
            await stage.progress()
            stage.note("NATS away", repeats=IN_FLIGHT, why="in flight when nats-server ended")
            await nats.stop()
            stage.note("disk full")
            async with stage.refusing():
                _limit(sidecar, SPOOL_BYTES)
            await until(lambda: sidecar.said("the spool can't be written"), timeout_s=PATIENCE_S)
            await asyncio.sleep(stage.chance.uniform(0, stage.form.hold_s))
            _limit(sidecar, resource.RLIM_INFINITY)
            acknowledged = stage.ledger.acknowledged
            await until(
                lambda before=acknowledged: stage.ledger.acknowledged >= before + 20,
                timeout_s=PATIENCE_S, what="emits to be spooled again",
            )  # fmt: skip
            await nats.start()
            await stage.progress()
    await stage.settle()


SCENARIOS = [
    Scenario(
        "embedded-disk-full", 5, embedded_disk_full,
        Form(rounds=1, rate=100, hold_s=1, flow_s=0.5), Form(rounds=6, rate=200, hold_s=10),
    ),
    Scenario(
        "spool-disk-full", 5, spool_disk_full,
        Form(rounds=1, rate=100, hold_s=0.5, flow_s=0.5), Form(rounds=6, rate=200, hold_s=5),
    ),
]  # fmt: skip
