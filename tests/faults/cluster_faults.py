"""A cluster of three nodes: leaders move and die, the connected node dies, the quorum is lost and comes back."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from nats.errors import Error
from nats.js import JetStreamContext

from faults.scenario import Scenario
from faults.stage import ACTORS, IN_FLIGHT, PATIENCE_S, Form, Stage
from support.cluster import SIZE, Cluster
from support.nats_server import NatsServer
from support.waiting import until

UNKNOWN = "in flight when a leader went: the new one may not know that they were handed over"

ANSWER_S = 2.0
"""Who resigns may not answer, nor who has just come and knows no leader; so long it is waited for."""

Break = Callable[[Stage, Cluster, JetStreamContext], Awaitable[None]]


async def step_down(stage: Stage, _nodes: Cluster, jetstream: JetStreamContext) -> None:
    """Have the leader of a stream, of a consumer or of the cluster itself resign."""
    event = stage.chance.choice(list(ACTORS))
    actor = stage.chance.choice(ACTORS[event])
    what, subject = stage.chance.choice([
        ("stream", f"STREAM.LEADER.STEPDOWN.{event}"),
        ("consumer", f"CONSUMER.LEADER.STEPDOWN.{event}.{actor}"),
        ("cluster", "META.LEADER.STEPDOWN"),
    ])  # fmt: skip
    _note(stage, f"leader of a {what} steps down")
    with contextlib.suppress(Error, TimeoutError):  # it may resign before it has answered
        await jetstream._api_request(f"$JS.API.{subject}", b"", timeout=ANSWER_S)


async def kill_leader(stage: Stage, nodes: Cluster, jetstream: JetStreamContext) -> None:
    """Kill the leader of a stream, and start it again later."""
    event = stage.chance.choice(list(ACTORS))
    info = await jetstream.stream_info(event)
    assert info.cluster is not None
    assert info.cluster.leader is not None
    _note(stage, "SIGKILL of a stream's leader")
    await _kill_for_a_while(stage, nodes.node(info.cluster.leader))


async def kill_connected(stage: Stage, nodes: Cluster, _jetstream: JetStreamContext) -> None:
    """Kill the node that a sidecar is connected to, and start it again later."""
    at = stage.chance.choice(stage.sidecars).connected_to
    node = next(node for node in nodes.nodes if node.url.endswith(at))
    _note(stage, "SIGKILL of the connected node")
    await _kill_for_a_while(stage, node)


async def lose_quorum(stage: Stage, nodes: Cluster, _jetstream: JetStreamContext) -> None:
    """Kill two nodes at once, and start them again later."""
    lost = stage.chance.sample(nodes.nodes, 2)
    _note(stage, "SIGKILL of two nodes of three")
    await asyncio.gather(*(node.kill() for node in lost))
    await asyncio.sleep(stage.form.hold_s)
    await asyncio.gather(*(node.start() for node in lost))


def _note(stage: Stage, fault: str) -> None:
    stage.note(fault, repeats=IN_FLIGHT * len(stage.sidecars), why=UNKNOWN)


async def _kill_for_a_while(stage: Stage, node: NatsServer) -> None:
    await node.kill()
    await stage.progress()  # without it
    await node.start()


async def whole(jetstream: JetStreamContext) -> bool:
    """Whether all nodes have all that is stored, so that losing one more loses nothing."""
    try:
        for stream in (*ACTORS, "walnatsd", "walnatsd-dead-letters"):
            async with asyncio.timeout(ANSWER_S):
                state = (await jetstream.stream_info(stream)).cluster
            replicas = (state.replicas or []) if state is not None else []
            if len(replicas) != SIZE - 1 or not all(peer.current and not peer.offline for peer in replicas):
                return False
    except (Error, TimeoutError):
        return False
    return True


async def _break_in_turn(stage: Stage, *breaks: Break) -> None:
    nodes = await stage.start_cluster()
    async with stage.jetstream() as jetstream:
        for _ in range(2):
            await stage.start_sidecar(*nodes.urls)
        async with stage.load():
            for number in range(stage.form.rounds):
                await until(lambda: whole(jetstream), timeout_s=PATIENCE_S, what="the cluster to be whole")
                await stage.progress()
                await breaks[number % len(breaks)](stage, nodes, jetstream)
            await stage.progress()
        await stage.settle()


async def leaders(stage: Stage) -> None:
    """Three nodes, three replicas: leaders step down and are killed, and so is the node that is connected."""
    await _break_in_turn(stage, step_down, kill_leader, kill_connected)


async def quorum(stage: Stage) -> None:
    """Three nodes, three replicas: two are killed at once and come back."""
    await _break_in_turn(stage, lose_quorum)


SCENARIOS = [
    Scenario("leaders", 3, leaders, Form(rounds=3, rate=50, hold_s=0, flow_s=0.5), Form(rounds=24, rate=100, hold_s=0)),
    Scenario("quorum", 3, quorum, Form(rounds=1, rate=50, hold_s=1, flow_s=0.5), Form(rounds=6, rate=100, hold_s=10)),
]
