"""Long waits: messages are parked, occupy nobody meanwhile, and come back to their actor alone."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.daemon import config_text, process, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.receiver import Receiver, answers
from support.receiver import receiver as receiver_beside
from support.route import in_stream, is_parked, unsettled
from support.waiting import until
from walnatsd.broker.delivery import Delivery
from walnatsd.dispatch import handling

IMPATIENT = "from walnatsd.dispatch import handling; handling.PARK_OVER_S = 0.5"

every_server = pytest.mark.parametrize("version", ["2.10.26", "2.12.8", "newest"])
with_and_without_schedules = pytest.mark.parametrize("version", ["2.10.26", "newest"])


@contextlib.asynccontextmanager
async def server_of(version: str, folder: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(folder / "nats", binary=None if version == "newest" else binary_of(version)) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch) -> None:
    """What waits longer than half a second is parked."""
    monkeypatch.setattr(handling, "PARK_OVER_S", 0.5)


def config(nats: NatsServer, receiver: Receiver, *, delays: list[float], **options: object) -> str:
    retry = {"delays": delays, "jitter": 0}
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": retry}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


@every_server
async def test_a_long_retry_occupies_nobody_and_comes_back_when_it_is_due(
    version, tmp_path, receiver, impatient
) -> None:
    receiver.answer = answers(500, 500)
    started: list[float] = []
    async with server_of(version, tmp_path) as nats, running(config(nats, receiver, delays=[1.5, 2.5])) as sidecar:
        await sidecar.emit("counts", "7", uid="one", trace_id="t", headers={"ce-subject": "s"})
        for number in (1, 2):
            await receiver.wait_for(number)
            started.append(time.monotonic())
            await until(lambda: is_parked(nats))
            assert len(receiver.received) == number
        first, second, third = await receiver.wait_for(3)
        started.append(time.monotonic())
        await until(lambda: is_parked(nats, 0))
        metrics = await sidecar.metrics()
    assert [each.attempt for each in receiver.received] == [1, 2, 3]
    assert started[1] - started[0] > 1.4
    assert started[2] - started[1] > 2.4
    same = set(first.headers) - {"walnats-attempt"}
    assert {name: first.headers[name] for name in same} == {name: third.headers[name] for name in same}
    assert first.headers["walnats-sequence"] == "1"
    assert first.headers["walnats-uid"] == "one"
    assert second.body == third.body == b"7"
    assert metrics['walnatsd_parked_total{actor="print",event="counts"}'] == 2


@every_server
async def test_a_far_delay_of_a_walnats_emitter_is_parked_and_is_no_attempt(
    version, tmp_path, receiver, impatient
) -> None:
    async with server_of(version, tmp_path) as nats, running(config(nats, receiver, delays=[0.1])):
        due = time.time() + 2
        async with nats.jetstream() as jetstream:
            await jetstream.publish("counts", b"7", headers={"Walnats-Delay": str(due)})
        await until(lambda: is_parked(nats))
        [received] = await receiver.wait_for(1)
        assert time.time() >= due
        await until(lambda: is_parked(nats, 0))
    assert received.attempt == 1


@with_and_without_schedules
async def test_what_a_killed_sidecar_parked_reaches_another_one_that_never_parked(version, tmp_path, receiver) -> None:
    receiver.answer = answers(then=500)
    async with server_of(version, tmp_path) as nats, receiver_beside() as gate, receiver_beside() as other:
        gate.answer = answers(then=503)
        first_config = config(nats, receiver, delays=[4])
        async with (
            running(config(nats, other, delays=[4], wait_for=gate.url)),
            process(tmp_path / "first", first_config, prelude=IMPATIENT) as first,
        ):
            assert first.sidecar is not None
            await first.sidecar.emit("counts", "7", uid="one")
            await receiver.wait_for(1)
            await until(lambda: is_parked(nats))
            await first.end(signal.SIGKILL)
            gate.answer = answers(then=200)
            [received] = await other.wait_for(1)
            await until(lambda: is_parked(nats, 0))
    assert received.attempt == 2
    assert received.headers["webhook-id"] == receiver.received[0].headers["webhook-id"]
    assert len(receiver.received) == 1


@with_and_without_schedules
async def test_a_sidecar_that_starts_later_finds_what_is_parked(version, tmp_path, receiver) -> None:
    receiver.answer = answers(500)
    async with server_of(version, tmp_path) as nats:
        text = config(nats, receiver, delays=[2])
        async with process(tmp_path / "first", text, prelude=IMPATIENT) as first:
            assert first.sidecar is not None
            await first.sidecar.emit("counts", "7")
            await until(lambda: is_parked(nats))
            await first.end(signal.SIGKILL)
        async with running(text):
            await receiver.wait_for(2)
            await until(lambda: is_parked(nats, 0))
    assert [each.attempt for each in receiver.received] == [1, 2]


@with_and_without_schedules
async def test_hundreds_of_waiting_messages_do_not_block_max_ack_pending(version, tmp_path, receiver) -> None:
    receiver.answer = answers(*[500] * 200)
    async with server_of(version, tmp_path) as nats:
        text = config(nats, receiver, delays=["5m", "30m", "2h", "10h"], max_ack_pending=10, max_jobs=5)
        async with running(text) as sidecar:
            for number in range(200):
                await sidecar.emit("counts", str(number))
            await until(lambda: is_parked(nats, 200))
            await sidecar.emit("counts", "the next one")
            await receiver.wait_for(201)
            await until(lambda: is_parked(nats, 200))
    assert receiver.bodies[-1] == b"the next one"
    assert {each.attempt for each in receiver.received} == {1}


@with_and_without_schedules
async def test_a_crash_between_parking_and_ack_does_not_double(
    version, tmp_path, receiver, impatient, monkeypatch
) -> None:
    acks: list[Delivery] = []
    ack = Delivery.ack

    async def lost_once(delivery: Delivery) -> bool:
        acks.append(delivery)
        return await ack(delivery) if len(acks) > 1 else True

    monkeypatch.setattr(Delivery, "ack", lost_once)
    receiver.answer = answers(500, 500)
    options = {"delays": [3], "ack_wait": 0.5}
    async with server_of(version, tmp_path) as nats, running(config(nats, receiver, **options)) as sidecar:
        await sidecar.emit("counts", "7")
        await receiver.wait_for(2)
        await until(lambda: len(acks) == 2)
        await until(lambda: is_parked(nats))
        await receiver.wait_for(3)
        await until(lambda: is_parked(nats, 0))
        await asyncio.sleep(0.6)  # a second copy would be due half a second later
    assert len(receiver.received) == 3


async def test_what_can_not_be_parked_waits_in_its_consumer_and_is_told(nats, receiver, impatient) -> None:
    receiver.answer = answers(500)
    failures = 'walnatsd_park_failures_total{actor="print",event="counts"}'
    async with running(config(nats, receiver, delays=[1.5])) as sidecar:
        async with nats.jetstream() as jetstream:
            stream = (await jetstream._api_request("$JS.API.STREAM.INFO.walnatsd"))["config"]
            await jetstream._api_request(
                "$JS.API.STREAM.UPDATE.walnatsd", json.dumps(stream | {"max_msg_size": 1}).encode()
            )  # as good as full
        began = time.monotonic()
        await sidecar.emit("counts", "long payload")
        await until(lambda: _metric(sidecar, failures))
        assert await unsettled(nats) == 1
        assert await in_stream(nats) == 0
        await receiver.wait_for(2)
        assert time.monotonic() - began > 1.4
        await until(lambda: _is_settled(nats))
    assert [each.attempt for each in receiver.received] == [1, 2]


async def _metric(sidecar, name: str) -> float:
    return (await sidecar.metrics()).get(name, 0)


async def _is_settled(nats: NatsServer) -> bool:
    return await unsettled(nats) == 0 and await in_stream(nats, "counts") == 0


async def test_the_stream_of_what_waits_is_created_again_when_somebody_deletes_it(nats, receiver, impatient) -> None:
    receiver.answer = answers(500, 500)
    async with running(config(nats, receiver, delays=[1])) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        await until(lambda: is_parked(nats))
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("walnatsd")
        await sidecar.emit("counts", "2")
        await receiver.wait_for(3, timeout_s=30)
        await until(lambda: is_parked(nats, 0), timeout_s=30)
    assert receiver.bodies == [b"1", b"2", b"2"]


async def test_a_delay_beyond_all_measure_is_parked(nats, receiver) -> None:
    async with running(config(nats, receiver, delays=[1])) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.publish("counts", b"never", headers={"Walnats-Delay": "1e300"})
        await until(lambda: is_parked(nats))
        await sidecar.emit("counts", "now")
        await receiver.wait_for(1)
        await until(lambda: is_parked(nats))
    assert receiver.bodies == [b"now"]


async def test_a_delay_beyond_all_measure_waits_on_the_route_of_an_old_server(tmp_path, receiver) -> None:
    async with server_of("2.10.26", tmp_path) as nats, running(config(nats, receiver, delays=[1])) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.publish("counts", b"never", headers={"Walnats-Delay": "1e300"})
        await until(lambda: is_parked(nats))
        await sidecar.emit("counts", "now")
        await receiver.wait_for(1)
        metrics = await sidecar.metrics()
    assert receiver.bodies == [b"now"]
    assert metrics['walnatsd_parked_total{actor="print",event="counts"}'] == 1


async def test_schedules_are_used_once_the_server_has_them(tmp_path, receiver) -> None:
    async with server_of("2.10.26", tmp_path) as nats:
        async with running(config(nats, receiver, delays=[1])):
            pass
        await nats.stop()
        nats._binary = NatsServer(tmp_path)._binary
        await nats.start()
        async with running(config(nats, receiver, delays=[1])), nats.jetstream() as jetstream:
            stream = await jetstream._api_request("$JS.API.STREAM.INFO.walnatsd")
    assert stream["config"]["allow_msg_schedules"]
    assert stream["config"]["allow_msg_ttl"]
