"""From an emit to the webhook: what arrives, and what each answer leads to."""

import asyncio
import time

from aiohttp import web

from support.daemon import config_text, running
from support.nats_server import NatsServer
from support.receiver import Received, Receiver, answers
from support.receiver import receiver as receiver_beside
from support.waiting import until
from walnatsd.broker import pull


def one_actor(nats: NatsServer, receiver: Receiver, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


async def ack_pending(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
        return (info.num_ack_pending or 0) + (info.num_pending or 0)


async def dead_letters(nats: NatsServer) -> list[dict[str, str]]:
    async with nats.jetstream() as jetstream:
        info = await jetstream.stream_info("walnatsd-dead-letters")
        messages = []
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            message = await jetstream.get_msg("walnatsd-dead-letters", sequence)
            messages.append((message.headers or {}) | {"payload": (message.data or b"").decode()})
        return messages


async def test_an_emitted_message_arrives_with_all_headers_of_the_contract(nats, receiver) -> None:
    async with running(one_actor(nats, receiver)) as sidecar:
        answer = await sidecar.emit(
            "counts", "7", uid="one", trace_id="t-1",
            headers={"ce-subject": "s", "traceparent": "00-aa-bb-01", "walnats-header-X-Mine": "m", "X-Other": "o"},
        )  # fmt: skip
        assert answer == {
            "uid": "one", "stream": "counts", "sequence": 1, "duplicate": False, "scheduled": False, "spooled": False,
        }  # fmt: skip
        [received] = await receiver.wait_for(1)
    headers = received.headers
    assert received.body == b"7"
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == "1"
    assert "transfer-encoding" not in headers
    assert {name: headers[name] for name in headers if name.startswith("ce-") and name != "ce-time"} == {
        "ce-id": "one", "ce-source": "tests", "ce-type": "counts", "ce-specversion": "1.0", "ce-subject": "s",
    }  # fmt: skip
    assert headers["ce-time"].endswith("Z")
    assert headers["webhook-id"].startswith("msg_")
    assert len(headers["webhook-id"]) == 36
    assert headers["walnats-event"] == "counts"
    assert headers["walnats-actor"] == "print"
    assert headers["walnats-uid"] == "one"
    assert headers["walnats-sequence"] == "1"
    assert headers["walnats-attempt"] == "1"
    assert headers["walnats-trace"] == "t-1"
    assert headers["traceparent"] == "00-aa-bb-01"
    assert headers["x-mine"] == "m"
    assert "x-other" not in headers
    assert "nats-msg-id" not in headers


async def test_an_actor_that_fails_twice_sees_the_message_three_times_with_the_same_webhook_id(nats, receiver) -> None:
    receiver.answer = answers(500, 500)
    async with running(one_actor(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "7")
        received = await receiver.wait_for(3)
        await until(lambda: _settled(nats))
        metrics = await sidecar.metrics()
    assert [each.attempt for each in received] == [1, 2, 3]
    assert len({each.headers["webhook-id"] for each in received}) == 1
    assert metrics['walnatsd_attempts_total{actor="print",event="counts",outcome="failed"}'] == 2
    assert metrics['walnatsd_retries_total{actor="print",counts="true",event="counts"}'] == 2


async def _settled(nats: NatsServer) -> bool:
    return await ack_pending(nats) == 0


async def test_a_400_makes_a_dead_letter_at_once_with_the_reason(nats, receiver) -> None:
    async def reject(_received: Received) -> web.StreamResponse:
        return web.Response(status=400, text="no such\nparcel: ü")

    receiver.answer = reject
    async with running(one_actor(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "7", uid="bad one", headers={"ce-subject": "s"})
        await until(lambda: _settled(nats))
        [letter] = await dead_letters(nats)
        metrics = await sidecar.metrics()
    assert len(receiver.received) == 1
    assert letter["payload"] == "7"
    assert letter["Nats-Msg-Id"] == "dlq:counts:print:1:0"
    assert letter["walnatsd-original-Nats-Msg-Id"] == "bad one"
    assert letter["ce-subject"] == "s"
    assert letter["walnats-dead-letter-reason"] == "400: no such parcel:"
    assert letter["walnats-dead-letter-status"] == "400"
    assert letter["walnats-dead-letter-attempts"] == "1"
    assert letter["walnats-dead-letter-uid"] == "bad one"
    assert letter["walnats-dead-letter-stream"] == "counts"
    assert letter["walnats-dead-letter-sequence"] == "1"
    assert letter["walnats-dead-letter-event"] == "counts"
    assert letter["walnats-dead-letter-actor"] == "print"
    assert metrics['walnatsd_dead_letters_total{actor="print",cause="rejected",event="counts"}'] == 1


async def test_used_up_attempts_make_a_dead_letter(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    async with running(one_actor(nats, receiver, retry={"delays": [0.01], "max_attempts": 3})) as sidecar:
        await sidecar.emit("counts", "7")
        await until(lambda: _settled(nats))
        [letter] = await dead_letters(nats)
    assert [each.attempt for each in receiver.received] == [1, 2, 3]
    assert letter["walnats-dead-letter-attempts"] == "3"
    assert "gave up after 3 attempts" in letter["walnats-dead-letter-reason"]


async def test_a_receiver_that_hangs_is_cut_off_after_job_timeout_and_tried_again(nats, receiver) -> None:
    async def hang_once(received: Received) -> web.StreamResponse:
        if received.attempt == 1:
            await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang_once
    async with running(one_actor(nats, receiver, job_timeout=0.3)) as sidecar:
        await sidecar.emit("counts", "7")
        await receiver.wait_for(2)
        await until(lambda: _settled(nats))
    assert [each.attempt for each in receiver.received] == [1, 2]


async def test_a_retry_after_on_503_holds_the_whole_actor(nats, receiver) -> None:
    receiver.answer = answers(503, headers={"Retry-After": "1"})
    async with running(one_actor(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        began = time.monotonic()
        await sidecar.emit("counts", "2")
        await receiver.wait_for(2)
        assert time.monotonic() - began > 0.9
        await receiver.wait_for(3)
        await until(lambda: _settled(nats))
    assert sorted(receiver.bodies) == [b"1", b"1", b"2"]


async def test_a_retry_after_on_500_delays_this_message_only(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        if received.body == b"1" and received.attempt == 1:
            return web.Response(status=500, headers={"Retry-After": "1"})
        return web.Response()

    receiver.answer = answer
    async with running(one_actor(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        await sidecar.emit("counts", "2")
        await receiver.wait_for(3)
    assert receiver.bodies == [b"1", b"2", b"1"]


async def test_an_actor_that_is_not_there_costs_no_attempt_and_makes_no_dead_letter(nats, receiver) -> None:
    await receiver.down()
    config = one_actor(
        nats, receiver, retry={"delays": [0.02], "max_attempts": 2}, breaker={"consecutive": 3, "open_for": 0.2}
    )
    async with running(config) as sidecar:
        for number in range(5):
            await sidecar.emit("counts", str(number))
        opened = 'walnatsd_breaker_open{actor="print",event="counts"}'
        await until(lambda: _metric(sidecar, opened))
        await receiver.up()
        await receiver.wait_for(5)
        await until(lambda: _settled(nats))
        metrics = await sidecar.metrics()
    assert {each.attempt for each in receiver.received} == {1}
    assert sorted(receiver.bodies) == [b"0", b"1", b"2", b"3", b"4"]
    assert await dead_letters(nats) == []
    assert metrics[opened] == 0


async def _metric(sidecar, name: str) -> float:
    return (await sidecar.metrics()).get(name, 0)


async def test_a_410_pauses_the_actor_and_keeps_its_messages(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr(pull, "HEARTBEAT_S", 0.2)  # the server sees the end of a pause when a heartbeat is due
    receiver.answer = answers(410)
    async with running(one_actor(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        async with nats.jetstream() as jetstream:
            await until(lambda: _is_paused(jetstream))
            await sidecar.emit("counts", "2")
            assert await ack_pending(nats) == 2
            await jetstream._api_request("$JS.API.CONSUMER.PAUSE.counts.print", b"{}")
        await receiver.wait_for(3)
        await until(lambda: _settled(nats))
    assert sorted(receiver.bodies) == [b"1", b"1", b"2"]


async def _is_paused(jetstream) -> bool:
    return bool((await jetstream._api_request("$JS.API.CONSUMER.INFO.counts.print", b"")).get("paused"))


async def test_a_job_that_outlasts_ack_wait_is_pulsed_and_handled_once(nats, receiver) -> None:
    async def slow(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(1.5)
        return web.Response()

    receiver.answer = slow
    async with running(one_actor(nats, receiver, ack_wait=0.5)) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: _settled(nats))
        async with nats.jetstream() as jetstream:
            info = await jetstream.consumer_info("counts", "print")
    assert len(receiver.received) == 1
    assert info.num_redelivered == 0
    assert info.delivered.consumer_seq == 1


async def test_max_jobs_bounds_the_attempts_in_flight(nats, receiver) -> None:
    async def slow(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return web.Response()

    receiver.answer = slow
    async with running(one_actor(nats, receiver, max_jobs=3)) as sidecar:
        for number in range(20):
            await sidecar.emit("counts", str(number))
        await receiver.wait_for(20)
    assert receiver.most_in_progress == 3


async def test_max_jobs_of_the_sidecar_bounds_all_actors_together(nats, receiver) -> None:
    async def slow(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return web.Response()

    receiver.answer = slow
    actors = [{"name": f"a{n}", "event": "counts", "url": receiver.url} for n in range(4)]
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=actors, max_jobs=2)) as sidecar:
        for number in range(5):
            await sidecar.emit("counts", str(number))
        await receiver.wait_for(20)
    assert receiver.most_in_progress == 2


async def test_pulling_starts_when_wait_for_answers_well(nats, receiver) -> None:
    async with receiver_beside() as health:
        health.answer = answers(503, then=200)
        async with running(one_actor(nats, receiver, wait_for=health.url)) as sidecar:
            await sidecar.emit("counts", "1")
            await receiver.wait_for(1)
    assert len(health.received) == 2
    assert {each.body for each in health.received} == {b""}


async def test_a_rate_limit_bounds_the_starts_in_any_sliding_period(nats, receiver) -> None:
    starts: list[float] = []

    async def note(_received: Received) -> web.StreamResponse:
        starts.append(time.monotonic())
        return web.Response()

    receiver.answer = note
    async with running(one_actor(nats, receiver, rate_limit={"jobs": 3, "period": 1.0})) as sidecar:
        for number in range(8):
            await sidecar.emit("counts", str(number))
        await receiver.wait_for(8)
    assert all(later - earlier > 0.95 for earlier, later in zip(starts, starts[3:], strict=False))
    assert starts[2] - starts[0] < 0.9
