"""The daemon is killed while it spools and while it forwards, NATS comes and goes: all that was acknowledged arrives."""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator

import aiohttp
from nats.errors import Error

from support.cluster import Cluster, cluster
from support.daemon import Process, Sidecar, process, running
from support.grpc_calls import stubs
from support.nats_server import NatsServer
from support.outages import config, is_forwarded, waiting
from support.streams import stored
from support.waiting import until
from walnatsd.api.events import MAX_BATCH_ITEMS
from walnatsd.v1 import events_pb2

EVENTS = ["red", "green", "blue"]


def text(nats: NatsServer, folder, receiver) -> str:
    actors = [{"name": "print", "event": event, "url": receiver.url} for event in EVENTS]
    return config(nats, folder, events=[{"name": event} for event in EVENTS], actors=actors)


class Emitter:
    """Emits the numbers of one event one after the other, each again with the same uid until it is acknowledged."""

    def __init__(self, daemon: Process, event: str) -> None:
        self._daemon = daemon
        self._event = event
        self.acknowledged = 0
        self.spooled = 0

    async def run(self) -> None:
        for number in itertools.count():
            await until(lambda number=number: self._emit(number), timeout_s=60)
            self.acknowledged = number + 1

    async def _emit(self, number: int) -> bool:
        sidecar = self._daemon.sidecar
        if sidecar is None:
            return False
        with contextlib.suppress(aiohttp.ClientError, RuntimeError, OSError):  # killed, or its session closed with it
            status, answer = await sidecar.try_emit(
                self._event, f"{self._event} {number}", uid=f"{self._event} {number}"
            )
            assert status in (200, 201, 202, 503), answer
            self.spooled += status == 202
            return status != 503
        return False


@contextlib.asynccontextmanager
async def emitting(daemon: Process) -> AsyncIterator[list[Emitter]]:
    emitters = [Emitter(daemon, event) for event in EVENTS]
    tasks = [asyncio.create_task(emitter.run()) for emitter in emitters]
    try:
        yield emitters
        assert not any(task.done() for task in tasks), "an emitter ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def more(emitters: list[Emitter], count: int, *, spooled: bool = False) -> None:
    """Wait until so many more are acknowledged, of each event."""
    name = "spooled" if spooled else "acknowledged"
    so_far = [getattr(emitter, name) for emitter in emitters]
    await until(
        lambda: all(getattr(e, name) >= before + count for e, before in zip(emitters, so_far, strict=True)),
        timeout_s=60,
    )


def see_all(arrived: list[bytes], emitters: list[Emitter]) -> dict[str, list[int]]:
    """All that was acknowledged is there; the numbers by event, in the order of their first arrival."""
    found: dict[str, list[int]] = {event: [] for event in EVENTS}
    for body in dict.fromkeys(arrived):
        event, number = body.decode().split()
        found[event].append(int(number))
    for emitter, event in zip(emitters, EVENTS, strict=True):
        assert set(range(emitter.acknowledged)) <= set(found[event])
    return found


async def test_a_daemon_that_is_killed_while_it_spools_and_while_it_forwards_loses_nothing_and_keeps_the_order(
    nats, receiver, tmp_path
) -> None:
    async with nats.jetstream() as jetstream:
        for event in EVENTS:  # sees the order of the streams, whatever the actors do
            await jetstream.add_stream(name=event, subjects=[event], retention="interest")
            await jetstream.add_consumer(event, durable_name="keeper")
    async with process(tmp_path / "daemon", text(nats, tmp_path, receiver)) as daemon:
        async with emitting(daemon) as emitters:
            await more(emitters, 20)
            for while_it in ("forwards", "spools"):  # what the one leaves behind, the other one goes on with
                await nats.stop()
                await more(emitters, 100, spooled=True)
                if while_it == "forwards":
                    before = await waiting(daemon.sidecar)
                    await nats.start()
                    await until(lambda before=before: _is_less(daemon, before))
                await daemon.end(signal.SIGKILL)
                await daemon.start(ready=False)
                await more(emitters, 20)
                if while_it == "spools":
                    await nats.start()
                await until(daemon.sidecar.is_ready, timeout_s=30)
                await more(emitters, 20)
        await until(lambda: is_forwarded(daemon.sidecar), timeout_s=30)
        in_streams = [payload for event in EVENTS for payload, _ in await stored(nats, event)]
        await until(lambda: set(in_streams) <= set(receiver.bodies), timeout_s=60)
    see_all(receiver.bodies, emitters)
    assert len(in_streams) == len(set(in_streams)), "within the duplicate window each one is stored once"
    for numbers in see_all(in_streams, emitters).values():
        assert numbers == sorted(numbers)


async def _is_less(daemon: Process, before: int) -> bool:
    return await waiting(daemon.sidecar) < before


async def test_a_leader_that_is_killed_while_messages_are_forwarded_changes_nothing_about_their_order(
    nats, tmp_path
) -> None:
    count = 3000
    replicas = {"events": [{"name": "counts", "replicas": 3}], "nats": {"system_replicas": 3}}
    await nats.stop()
    async with running(config(nats, tmp_path, **replicas), ready=False) as sidecar, stubs(sidecar.grpc) as grpc_:
        items = [events_pb2.EmitRequest(event="counts", payload=b"%d" % number) for number in range(count)]
        for first in range(0, count, MAX_BATCH_ITEMS):
            batch = events_pb2.EmitBatchRequest(items=items[first : first + MAX_BATCH_ITEMS])
            assert all(item.ok.spooled for item in (await grpc_.events.EmitBatch(batch)).items)
    async with cluster(tmp_path / "cluster") as nodes, nodes.jetstream() as jetstream:
        replicas["nats"]["servers"] = nodes.urls
        async with running(config(nats, tmp_path, **replicas), ready=False) as sidecar:
            await until(lambda: _has_begun(sidecar, count), timeout_s=60)
            leader = (await jetstream.stream_info("counts")).cluster.leader
            await nodes.node(leader).kill()
            left = await waiting(sidecar)
            await until(lambda: is_forwarded(sidecar), timeout_s=60)
        assert left > 0, "the leader was killed too late"
        found = await until(lambda: _numbers(nodes), timeout_s=60)
    assert found == list(range(count))


async def _has_begun(sidecar: Sidecar, count: int) -> bool:
    return await waiting(sidecar) < count


async def _numbers(nodes: Cluster) -> list[int]:
    """What the stream holds; nothing where the cluster does not answer yet."""
    with contextlib.suppress(Error, TimeoutError):
        return [int(payload) for payload, _ in await stored(nodes)]
    return []
