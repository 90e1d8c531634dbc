"""Sessions of the gRPC stream: who may listen, how listeners share an actor, and how a session ends."""

import asyncio
import signal

import grpc
import pytest

import walnatsd_client as walnatsd
from support.admin import actor_status, admin
from support.daemon import Sidecar, config_text, process, running
from support.listener import Listener, Request, listener, stream
from support.nats_server import NatsServer, free_port
from support.waiting import until

COUNT = walnatsd.Event("counts", int)


def one_actor(nats: NatsServer, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


async def is_settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
    return (info.num_ack_pending or 0) + (info.num_pending or 0) == 0


async def pulls(nats: NatsServer) -> int:
    """How many pull requests wait at the consumer."""
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("counts", "print")).num_waiting or 0


async def listeners(sidecar: Sidecar) -> float:
    return (await sidecar.metrics())['walnatsd_listeners{actor="print",event="counts"}']


# ---- who may listen


@pytest.mark.parametrize(
    "first", [Request(), Request(results=Request.Results()), None], ids=["nothing", "results", "the end"]
)
async def test_the_first_message_must_subscribe(nats, first) -> None:
    async with running(one_actor(nats)) as sidecar, stream(sidecar.grpc) as ours:
        if first is None:
            await ours.call.done_writing()
        else:
            await ours.call.write(first)
        assert await ours.ending() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "must be subscribe" in await ours.call.details()


async def test_a_session_subscribes_once(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await ours.call.write(Request(subscribe=Request.Subscribe(event="counts", actor="print")))
        assert await ours.ending() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_what_is_no_message_of_the_contract_ends_the_stream_in_words(nats) -> None:
    async with running(one_actor(nats)) as sidecar, grpc.aio.insecure_channel(sidecar.grpc) as channel:
        listen = channel.stream_stream("/walnatsd.v1.Actors/Listen", request_serializer=bytes)
        subscribe = Request(subscribe=Request.Subscribe(event="counts", actor="print")).SerializeToString()
        for said in ([b"\xff"], [subscribe, b"\xff"]):
            ours = Listener(listen())
            for message in said:
                await ours.call.write(message)
            assert await ours.ending() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("event", "actor", "ending"),
    [
        ("counts", "nobody", (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACTOR")),
        ("nothing", "print", (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACTOR")),
        ("counts", "hook", (grpc.StatusCode.FAILED_PRECONDITION, "CONFLICT")),
    ],
)
async def test_only_a_declared_actor_without_a_webhook_can_be_listened_to(nats, event, actor, ending) -> None:
    hook = {"name": "hook", "event": "counts", "url": "http://127.0.0.1:9/"}
    config = config_text(nats.url, events=[{"name": "counts"}], actors=[{"name": "print", "event": "counts"}, hook])
    async with running(config) as sidecar, stream(sidecar.grpc) as ours:
        await ours.call.write(Request(subscribe=Request.Subscribe(event=event, actor=actor)))
        assert await ours.ending() == ending
        assert actor in await ours.call.details()


async def test_before_nats_is_there_a_listener_is_told_to_come_again() -> None:
    config = config_text(
        f"nats://127.0.0.1:{free_port()}", events=[{"name": "counts"}], actors=[{"name": "print", "event": "counts"}]
    )
    async with running(config, ready=False) as sidecar, stream(sidecar.grpc) as ours:
        await ours.call.write(Request(subscribe=Request.Subscribe(event="counts", actor="print")))
        assert await ours.ending() == (grpc.StatusCode.UNAVAILABLE, "NATS_UNAVAILABLE")


# ---- credit


async def test_without_a_listener_nothing_is_pulled(nats) -> None:
    async with running(one_actor(nats)) as sidecar:
        async with listener(sidecar.grpc):
            await until(lambda: pulls(nats))
        await until(lambda: _no_pulls(nats))
        await sidecar.emit("counts", "1")
        status = await actor_status(sidecar, "print")
        assert (status["state"], status["pending"], status["ack_pending"]) == ("waiting-for-listener", 1, 0)
        async with listener(sidecar.grpc) as ours:
            await ours.wait_for(1)
            assert (await actor_status(sidecar, "print"))["state"] == "open"


async def _no_pulls(nats: NatsServer) -> bool:
    return await pulls(nats) == 0


async def test_a_session_never_has_more_unanswered_than_it_asked_for(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc, max_in_flight=3) as ours:
        for number in range(20):
            await sidecar.emit("counts", str(number))
        for count in range(3, 20):
            await ours.wait_for(count)
            oldest = min(ours.unanswered)
            await ours.ack(next(each for each in ours.deliveries if each.delivery_id == oldest))
        await ours.wait_for(20)
    assert ours.most_unanswered == 3


async def test_without_a_number_a_session_takes_what_the_actor_may_do_at_once(nats) -> None:
    async with running(one_actor(nats, max_jobs=2)) as sidecar, listener(sidecar.grpc) as ours:
        for number in range(6):
            await sidecar.emit("counts", str(number))
        for count in (2, 4, 6):
            await ours.wait_for(count)
            await ours.ack(*[each for each in ours.deliveries if each.delivery_id in ours.unanswered])
        await until(lambda: is_settled(nats))
    assert ours.most_unanswered == 2


async def test_several_listeners_share_an_actor(nats) -> None:
    async with (
        running(one_actor(nats)) as sidecar,
        listener(sidecar.grpc, max_in_flight=2) as one,
        listener(sidecar.grpc, max_in_flight=2) as other,
    ):
        for number in range(4):
            await sidecar.emit("counts", str(number))
        await one.wait_for(2)
        await other.wait_for(2)
        await one.ack(*one.deliveries)
        await other.ack(*other.deliveries)
        await until(lambda: is_settled(nats))
    assert sorted(one.payloads + other.payloads) == [b"0", b"1", b"2", b"3"]


async def test_idle_listeners_take_turns(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as one, listener(sidecar.grpc) as other:
        for number in range(4):
            await sidecar.emit("counts", str(number))
            await until(lambda wanted=number + 1: len(one.deliveries) + len(other.deliveries) == wanted)
            for ours in (one, other):
                await ours.ack(*[each for each in ours.deliveries if each.delivery_id in ours.unanswered])
    assert len(one.deliveries) == len(other.deliveries) == 2


# ---- how a session ends


async def test_a_broken_stream_hands_back_at_once_and_costs_no_attempt(nats) -> None:
    async with (
        running(one_actor(nats, ack_wait=60)) as sidecar,
        listener(sidecar.grpc) as leaving,
    ):
        await sidecar.emit("counts", "1")
        await leaving.wait_for(1)
        async with listener(sidecar.grpc) as staying:
            await leaving.close()
            [again] = await staying.wait_for(1)
            await staying.ack(again)
            await until(lambda: is_settled(nats))
        metrics = await sidecar.metrics()
    assert again.attempt == 1
    assert metrics['walnatsd_attempts_total{actor="print",event="counts",outcome="handed-back"}'] == 1
    assert metrics['walnatsd_retries_total{actor="print",counts="false",event="counts"}'] == 1


async def test_a_listener_that_closes_its_side_leaves_in_peace(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await ours.call.done_writing()
        assert await ours.ending() == (grpc.StatusCode.OK, "")
        assert await listeners(sidecar) == 0


async def test_a_listener_that_stops_gets_nothing_more_and_may_answer_what_it_has(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as leaving:
        await sidecar.emit("counts", "1")
        [delivery] = await leaving.wait_for(1)
        await leaving.stop()
        await until(lambda: _no_pulls(nats))
        await sidecar.emit("counts", "2")
        async with listener(sidecar.grpc) as staying:
            await staying.ack(*await staying.wait_for(1))
            await leaving.ack(delivery)
            await until(lambda: is_settled(nats))
    assert leaving.payloads == [b"1"]
    assert staying.payloads == [b"2"]


async def test_a_stopping_daemon_takes_results_first_then_ends_the_streams(nats, tmp_path) -> None:
    async with process(tmp_path / "sidecar", one_actor(nats)) as daemon, listener(daemon.sidecar.grpc) as ours:
        await daemon.sidecar.emit("counts", "1")
        [delivery] = await ours.wait_for(1)
        daemon.send_signal(signal.SIGTERM)
        await until(lambda: daemon.said("stopping"))
        await ours.ack(delivery)
        assert await ours.ending() == (grpc.StatusCode.UNAVAILABLE, "STOPPING")
        assert await daemon.wait() == 0
    assert await is_settled(nats)


async def test_an_actor_that_is_declared_anew_ends_its_sessions_with_a_status_that_says_so(nats) -> None:
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(walnatsd.Actor("print", COUNT, print))
        async with listener(sidecar.grpc) as ours:
            await sidecar.emit("counts", "1")
            [delivery] = await ours.wait_for(1)
            registering = asyncio.create_task(conn.register(walnatsd.Actor("print", COUNT, print, max_jobs=2)))
            await until(lambda: _no_pulls(nats))
            await ours.ack(delivery)
            assert await ours.ending() == (grpc.StatusCode.ABORTED, "REPLACED")
            await registering
        assert await is_settled(nats)
        async with listener(sidecar.grpc) as ours:
            await sidecar.emit("counts", "2")
            await ours.wait_for(1)


async def test_an_actor_that_is_deleted_ends_its_sessions_with_a_status_that_says_so(nats) -> None:
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(walnatsd.Actor("print", COUNT, print))
        async with listener(sidecar.grpc) as ours:
            assert (await admin(sidecar, "DELETE", "actors/counts/print"))[0] < 300
            assert await ours.ending() == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACTOR")


async def test_an_actor_over_the_stream_takes_no_options_of_webhooks(nats) -> None:
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        with pytest.raises(walnatsd.InvalidError, match="headers: for webhooks only"):
            await conn.register(walnatsd.Actor("print", COUNT, print, headers={"X-Team": "a"}))
