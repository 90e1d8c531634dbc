"""Everything is restarted, one after the other, as an upgrade does it."""

import signal

from faults.cluster_faults import UNKNOWN, whole
from faults.emitting import ClientDoor
from faults.scenario import Scenario
from faults.stage import IN_FLIGHT, PATIENCE_S, Form, Stage
from support.waiting import until


async def rolling_restart(stage: Stage) -> None:
    """Sidecars and the nodes of the cluster restarted in turn under load; no emit may fail."""
    nodes = await stage.start_cluster()
    async with stage.jetstream() as jetstream:
        for _ in range(2):
            await stage.start_sidecar(*nodes.urls)
        # as the documentation says: the client looks for a sidecar that is away, for 15 s
        clients = [door for door in stage.doors if isinstance(door, ClientDoor)]
        async with stage.load(through=clients):
            for _ in range(stage.form.rounds):
                for sidecar in stage.sidecars:
                    await stage.progress()
                    stage.note("restart of a sidecar")
                    if code := await sidecar.end(signal.SIGTERM):
                        stage.complain(f"{sidecar.name} ended with {code} when it was asked to stop")
                    await sidecar.start()
                for node in nodes.nodes:
                    await until(lambda: whole(jetstream), timeout_s=PATIENCE_S, what="the cluster to be whole")
                    await stage.progress()
                    stage.note("restart of a node", repeats=IN_FLIGHT * len(stage.sidecars), why=UNKNOWN)
                    await node.stop()
                    await node.start()
            await stage.progress()
        await stage.settle()
    for uid, why in stage.ledger.failures():
        stage.complain(f"the emit of {uid} failed: {why}")


SCENARIOS = [
    Scenario(
        "rolling-restart", 6, rolling_restart,
        Form(rounds=1, rate=50, hold_s=0, flow_s=0.5), Form(rounds=4, rate=100, hold_s=0),
    ),
]  # fmt: skip
