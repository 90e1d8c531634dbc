"""Three nodes, three replicas: leaders move and die while messages flow."""

import asyncio
import random
from collections import Counter

import yaml
from aiohttp import web
from nats.errors import Error
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from support.cluster import Cluster, cluster
from support.daemon import Sidecar, config_text, running
from support.receiver import Received, Receiver
from support.waiting import until

MAX_JOBS = 8


def config(nats: Cluster, receiver: Receiver) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "max_jobs": MAX_JOBS, "ack_wait": 3}
    return config_text(
        "", nats={"servers": nats.urls, "system_replicas": 3}, events=[{"name": "counts", "replicas": 3}], actors=[actor],
    )  # fmt: skip


async def emit_all(sidecar: Sidecar, numbers: range) -> None:
    """Emit, a few at a time, until each one is acknowledged."""
    left = list(reversed(numbers))

    async def work() -> None:
        while left:
            number = left.pop()
            status = 503
            while status == 503:
                status, _ = await sidecar.try_emit("counts", str(number), uid=f"number {number}")
            assert status in (200, 201)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(work())


async def unsettled(jetstream: JetStreamContext) -> int:
    try:
        info = await jetstream.consumer_info("counts", "print")
    except (Error, TimeoutError):
        return -1
    return info.num_pending + info.num_ack_pending


async def test_nothing_is_lost_while_leaders_step_down_and_the_connected_node_is_killed(tmp_path, receiver) -> None:
    async def work(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(random.uniform(0, 0.02))
        return web.Response()

    receiver.answer = work
    async with cluster(tmp_path) as nats, nats.jetstream() as jetstream:
        with capture_logs() as logs:
            async with running(config(nats, receiver)) as sidecar:
                emitting = asyncio.create_task(emit_all(sidecar, range(1000)))
                await receiver.wait_for(100)
                await jetstream._api_request("$JS.API.CONSUMER.LEADER.STEPDOWN.counts.print", b"")
                await receiver.wait_for(300)
                await jetstream._api_request("$JS.API.STREAM.LEADER.STEPDOWN.counts", b"")
                await receiver.wait_for(500)
                await connected_node(nats, logs).kill()
                await asyncio.wait_for(emitting, 60)
                await until(lambda: _is(jetstream, 0), timeout_s=60)
                handed_over = Counter(receiver.bodies)
                # stop in the middle of more
                await emit_all(sidecar, range(1000, 1200))
                await receiver.wait_for(sum(handed_over.values()) + 20)
        async with running(config(nats, receiver)):
            await until(lambda: _is(jetstream, 0), timeout_s=60)
    seen = Counter(receiver.bodies)
    assert set(seen) == {b"%d" % number for number in range(1200)}
    assert receiver.most_in_progress <= MAX_JOBS
    # a new leader may not know of the hand-overs in flight, once for each of the three changes
    assert sum(seen.values()) - len(seen) <= 3 * MAX_JOBS
    assert not [line for line in logs if "the consumer is gone" in line["event"]]


def connected_node(nats: Cluster, logs: list[dict[str, str]]) -> object:
    """The node that the daemon is connected to, by its log."""
    server = [line["server"] for line in logs if line["event"] == "connected to NATS"][-1]
    return next(node for node in nats.nodes if node.url.endswith(server))


async def _is(jetstream: JetStreamContext, count: int) -> bool:
    return await unsettled(jetstream) == count


async def test_clocks_tick_on_and_once_while_leaders_step_down(tmp_path, receiver) -> None:
    text = config_text(
        "",
        nats={"system_replicas": 3},
        events=[{"name": "second-passed", "replicas": 3}],
        actors=[{"name": "look", "event": "second-passed", "url": receiver.url}],
        clocks=[{"event": "second-passed", "every": "1s"}],
    )
    async with cluster(tmp_path) as nats, nats.jetstream() as jetstream:
        declared = yaml.safe_load(text)
        declared["nats"]["servers"] = nats.urls
        async with running(yaml.safe_dump(declared)):
            await receiver.wait_for(2)
            for stream in ("walnatsd", "second-passed", "walnatsd"):
                await jetstream._api_request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", b"")
                await receiver.wait_for(len(receiver.received) + 3)
    uids = [received.headers["walnats-uid"] for received in receiver.received]
    assert len(set(uids)) == len(uids)
