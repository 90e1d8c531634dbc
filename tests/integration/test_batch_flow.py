"""Batches obey the flow control of their actor, however the messages come."""

import asyncio
import json
import signal
import time

import pytest
from aiohttp import web
from nats.js import JetStreamContext

from support.daemon import Process, config_text, process, running
from support.nats_server import NatsServer
from support.proxy import proxy
from support.receiver import Received, Receiver
from support.waiting import until
from walnatsd.broker import delivery
from walnatsd.model.actor import Actor


def batch_actor(
    nats: NatsServer,
    receiver: Receiver,
    *,
    batch: dict[str, object],
    url_of_nats: str = "",
    shutdown_timeout: float = 40,
    **options: object,
) -> str:
    actor = {
        "name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0}, "batch": batch,
    }  # fmt: skip
    return config_text(
        url_of_nats or nats.url,
        events=[{"name": "counts"}],
        actors=[actor | options],
        shutdown_timeout=shutdown_timeout,
    )


def numbers(received: Received) -> list[int]:
    return [event["data"] for event in json.loads(received.body)]


async def settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
        return not info.num_ack_pending and not info.num_pending


async def asks_for_nothing(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        return not (await jetstream.consumer_info("counts", "print")).num_waiting


async def is_stopping(daemon: Process) -> bool:
    assert daemon.sidecar is not None
    return "stopping" in (await daemon.sidecar.readiness())[1]


async def test_max_jobs_bounds_the_requests_in_flight_where_messages_come_one_by_one(nats, receiver) -> None:
    await see_two_requests_for_twelve_messages(nats, receiver, max_jobs=2)


async def test_a_rate_limit_bounds_the_requests_where_messages_come_one_by_one(nats, receiver) -> None:
    await see_two_requests_for_twelve_messages(nats, receiver, rate_limit={"jobs": 2, "period": 60})


async def see_two_requests_for_twelve_messages(nats: NatsServer, receiver: Receiver, **options: object) -> None:
    release = asyncio.Event()

    async def hold(_received: Received) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    receiver.answer = hold
    async with running(batch_actor(nats, receiver, batch={"max_size": 20, "max_wait": 0}, **options)) as sidecar:
        for number in range(12):
            await sidecar.emit("counts", str(number))
            await receiver.wait_for(min(number + 1, 2))
        async with nats.jetstream() as jetstream:
            await until(lambda: all_handed_over(jetstream))
        assert receiver.in_progress == 2
        release.set()
        if "max_jobs" in options:
            await receiver.wait_for(3)
            await until(lambda: settled(nats))
            assert len(receiver.received) <= 4, "what waited for a request to end was not gathered"
        assert receiver.most_in_progress == 2


async def all_handed_over(jetstream: JetStreamContext) -> bool:
    return not (await jetstream.consumer_info("counts", "print")).num_pending


async def test_the_search_for_the_poison_ends_when_the_actor_is_not_there_any_more(nats, receiver) -> None:
    times: list[float] = []

    async def answer(received: Received) -> web.StreamResponse:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.Response(status=422)
        return web.Response(status=502 if len(times) <= 3 else 204)

    receiver.answer = answer
    config = batch_actor(nats, receiver, batch={"max_size": 8}, max_jobs=1, breaker={"consecutive": 2, "open_for": 0.5})
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
        await jetstream.add_consumer("counts", durable_name="print", ack_policy="explicit", max_ack_pending=1000)
        await asyncio.gather(*(jetstream.publish("counts", str(n).encode()) for n in range(8)))
    async with running(config):
        await until(lambda: settled(nats))
    assert [len(numbers(received)) for received in receiver.received[:3]] == [8, 1, 1]
    assert times[3] - times[2] > 0.45, "the search went on while the breaker was open"


async def test_a_stop_that_nats_does_not_answer_ends_the_search_for_the_poison_quietly(
    nats, receiver, tmp_path
) -> None:
    """The rest of the batch was let go twice, which ended the daemon with an error."""
    release = asyncio.Event()

    async def answer(received: Received) -> web.StreamResponse:
        if len(numbers(received)) > 1:
            return web.Response(status=422)
        await release.wait()
        return web.Response()

    receiver.answer = answer
    async with proxy(nats.port) as way, nats.jetstream() as jetstream:
        text = batch_actor(
            nats, receiver, batch={"max_size": 3, "max_wait": 5}, url_of_nats=way.url, shutdown_timeout=2
        )
        async with process(tmp_path, text) as daemon:
            await asyncio.gather(*(jetstream.publish("counts", str(n).encode()) for n in range(3)))
            await receiver.wait_for(2)
            way.hold_answers_after(b"-NAK")
            daemon.send_signal(signal.SIGTERM)
            await until(lambda: is_stopping(daemon))
            await until(lambda: asks_for_nothing(nats))  # the actor stops once its pull has ended
            release.set()
            assert await daemon.wait() == 0
        assert way.requests.count(b"-NAK") >= 2
    assert [len(numbers(received)) for received in receiver.received] == [3, 1]


async def test_a_stop_leaves_acks_of_a_batch_that_nats_does_not_confirm_in_peace(nats, receiver, tmp_path) -> None:
    """Each was an error in the log: a future whose exception nobody retrieved."""
    async with proxy(nats.port) as way, nats.jetstream() as jetstream:
        text = batch_actor(
            nats, receiver, batch={"max_size": 20, "max_wait": 5}, url_of_nats=way.url, shutdown_timeout=2
        )
        async with process(tmp_path, text) as daemon:
            way.hold_answers_after(b"+ACK")
            await asyncio.gather(*(jetstream.publish("counts", str(n).encode()) for n in range(20)))
            await until(lambda: settled(nats))
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 0
            assert not [line for line in daemon.lines if line["level"] == "error"]
        assert way.requests.count(b"+ACK") >= 20


async def test_a_batch_whose_consumer_is_deleted_holds_its_slot_no_longer_than_a_message_would(
    nats, receiver, monkeypatch
) -> None:
    """Its acks were said again one after the other, each with a pause."""
    monkeypatch.setattr(delivery, "SETTLE_PAUSE_S", 1.0)
    release = asyncio.Event()

    async def hold(_received: Received) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    receiver.answer = hold
    text = batch_actor(nats, receiver, batch={"max_size": 30, "max_wait": 5})
    async with running(text):
        pass
    as_it_is = {"WALNATSD_NATS__MANAGE__CREATE": "false"}
    async with running(text, environ=as_it_is) as sidecar, nats.jetstream() as jetstream:
        await asyncio.gather(*(jetstream.publish("counts", str(n).encode()) for n in range(30)))
        await receiver.wait_for(1)
        await jetstream.delete_consumer("counts", "print")
        release.set()

        async def is_let_go() -> bool:
            return (await sidecar.metrics())['walnatsd_deliveries_in_flight{actor="print",event="counts"}'] == 0

        await until(is_let_go)


def test_a_rate_limit_that_leaves_no_start_for_the_search_is_a_config_error() -> None:
    declared = {"name": "print", "event": "counts", "url": "http://127.0.0.1:1/", "batch": {}}
    with pytest.raises(ValueError, match=r"rate_limit\.jobs of 2 at least"):
        Actor.model_validate(declared | {"rate_limit": {"jobs": 1, "period": 60}})
    Actor.model_validate(declared | {"rate_limit": {"jobs": 2, "period": 60}})
