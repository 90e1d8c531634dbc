"""Actors served over the gRPC stream: what a listener gets, and what each of its answers leads to."""

import time

from google.protobuf.duration_pb2 import Duration

from support.daemon import Sidecar, config_text, running
from support.listener import Request, listener
from support.nats_server import NatsServer
from support.waiting import until


def one_actor(nats: NatsServer, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


async def settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
    return (info.num_ack_pending or 0) + (info.num_pending or 0) == 0


async def dead_letters(nats: NatsServer) -> list[dict[str, str]]:
    async with nats.jetstream() as jetstream:
        state = (await jetstream.stream_info("walnatsd-dead-letters")).state
        found = [await jetstream.get_msg("walnatsd-dead-letters", n) for n in range(1, state.last_seq + 1)]
    return [(message.headers or {}) | {"payload": (message.data or b"").decode()} for message in found]


async def late_results(sidecar: Sidecar) -> float:
    return (await sidecar.metrics())['walnatsd_late_results_total{actor="print",event="counts"}']


async def test_a_delivery_carries_the_message_its_attempt_and_its_deadline(nats) -> None:
    async with running(one_actor(nats, job_timeout=20)) as sidecar:
        await sidecar.emit(
            "counts", "7", uid="one", trace_id="t-1",
            headers={"ce-subject": "ü", "traceparent": "00-aa-bb-01", "walnats-header-X-Mine": "m"},
        )  # fmt: skip
        async with listener(sidecar.grpc) as ours:
            [delivery] = await ours.wait_for(1)
    message = delivery.message
    assert (message.event, message.payload, message.content_type) == ("counts", b"7", "application/json")
    assert (message.uid, message.sequence, message.trace_id) == ("one", 1, "t-1")
    assert dict(message.headers) == {"ce-subject": "%C3%BC", "traceparent": "00-aa-bb-01", "x-mine": "m"}
    assert abs(message.stored_at.ToNanoseconds() / 1e9 - time.time()) < 30
    assert delivery.attempt == 1
    assert 10 < delivery.deadline.ToNanoseconds() / 1e9 - time.time() < 21


async def test_an_ack_settles_the_message(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await sidecar.emit("counts", "7")
        await ours.ack(*await ours.wait_for(1))
        await until(lambda: settled(nats))
        metrics = await sidecar.metrics()
    assert metrics['walnatsd_attempts_total{actor="print",event="counts",outcome="acknowledged"}'] == 1
    assert len(ours.deliveries) == 1


async def test_the_response_of_an_ack_goes_to_who_asked(nats) -> None:
    async with (
        running(one_actor(nats, responds=True)) as sidecar,
        listener(sidecar.grpc) as ours,
        nats.jetstream() as jetstream,
    ):
        answers = await jetstream._nc.subscribe("_INBOX.asked")
        await jetstream.publish("counts", b"7", headers={"Walnats-Reply": "_INBOX.asked"})
        [delivery] = await ours.wait_for(1)
        ack = Request.Ack(response=b"<b/>", content_type="text/xml")
        await ours.send(Request.Result(delivery_id=delivery.delivery_id, ack=ack))
        answer = await answers.next_msg(timeout=10)
    assert answer.data == b"<b/>"
    assert (answer.headers or {})["Content-Type"] == "text/xml"


async def test_a_retry_counts_as_an_attempt_and_waits_for_the_actors_delay(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await sidecar.emit("counts", "7")
        for count in (1, 2):
            await ours.retry((await ours.wait_for(count))[-1], "not\nyet")
        await ours.ack((await ours.wait_for(3))[-1])
        await until(lambda: settled(nats))
    assert [each.attempt for each in ours.deliveries] == [1, 2, 3]
    assert len({each.delivery_id for each in ours.deliveries}) == 3


async def test_a_retry_that_says_when_delays_this_message_only(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await sidecar.emit("counts", "1")
        began = time.monotonic()
        await ours.retry((await ours.wait_for(1))[0], after=Duration(seconds=1))
        await sidecar.emit("counts", "2")
        await ours.wait_for(2)
        assert time.monotonic() - began < 0.9
        await ours.wait_for(3)
        assert time.monotonic() - began > 0.9
    assert ours.payloads == [b"1", b"2", b"1"]


async def test_a_reject_makes_a_dead_letter_at_once_with_the_reason(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await sidecar.emit("counts", "7")
        await ours.reject((await ours.wait_for(1))[0], "no such\nparcel")
        await until(lambda: settled(nats))
        [letter] = await dead_letters(nats)
    assert len(ours.deliveries) == 1
    assert letter["payload"] == "7"
    assert letter["walnats-dead-letter-reason"] == "no such parcel"
    assert letter["walnats-dead-letter-status"] == ""
    assert letter["walnats-dead-letter-attempts"] == "1"


async def test_used_up_attempts_make_a_dead_letter(nats) -> None:
    async with (
        running(one_actor(nats, retry={"delays": [0.01], "max_attempts": 2})) as sidecar,
        listener(sidecar.grpc) as ours,
    ):
        await sidecar.emit("counts", "7")
        for count in (1, 2):
            await ours.retry((await ours.wait_for(count))[-1], "broken")
        await until(lambda: settled(nats))
        [letter] = await dead_letters(nats)
    assert letter["walnats-dead-letter-attempts"] == "2"
    assert "gave up after 2 attempts; the last one: broken" in letter["walnats-dead-letter-reason"]


async def test_a_result_without_an_outcome_counts_as_a_failure(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await sidecar.emit("counts", "7")
        [delivery] = await ours.wait_for(1)
        await ours.send(Request.Result(delivery_id=delivery.delivery_id))
        await ours.wait_for(2)
    assert [each.attempt for each in ours.deliveries] == [1, 2]


async def test_what_is_not_answered_within_job_timeout_is_tried_again_and_its_late_result_ignored(nats) -> None:
    config = one_actor(nats, job_timeout=0.3, retry={"delays": [0.01], "max_attempts": 2})
    async with running(config) as sidecar, listener(sidecar.grpc, max_in_flight=1) as ours:
        await sidecar.emit("counts", "7")
        first, second = await ours.wait_for(2)
        await ours.reject(first, "too late")
        await until(lambda: late_results(sidecar))
        await ours.ack(second)
        await until(lambda: settled(nats))
        assert await dead_letters(nats) == []
        metrics = await sidecar.metrics()
    assert [first.attempt, second.attempt] == [1, 2]
    assert metrics['walnatsd_attempts_total{actor="print",event="counts",outcome="failed"}'] == 1


async def test_results_that_come_twice_or_of_nowhere_are_ignored_and_counted(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        await sidecar.emit("counts", "7")
        [delivery] = await ours.wait_for(1)
        await ours.ack(delivery, delivery)
        await ours.send(Request.Result(delivery_id=4711, ack=Request.Ack()))
        await until(lambda: _is_two(sidecar))
        await sidecar.emit("counts", "8")
        await ours.ack((await ours.wait_for(2))[1])
        await until(lambda: settled(nats))


async def _is_two(sidecar: Sidecar) -> bool:
    return await late_results(sidecar) == 2


async def test_one_message_brings_results_of_many_deliveries(nats) -> None:
    async with running(one_actor(nats)) as sidecar, listener(sidecar.grpc) as ours:
        for number in range(4):
            await sidecar.emit("counts", str(number))
        deliveries = await ours.wait_for(4)
        await ours.ack(*deliveries)
        await until(lambda: settled(nats))
    assert sorted(ours.payloads) == [b"0", b"1", b"2", b"3"]


async def test_a_job_that_outlasts_ack_wait_is_pulsed_and_handed_over_once(nats) -> None:
    async with running(one_actor(nats, ack_wait=0.3)) as sidecar, listener(sidecar.grpc) as ours:
        await sidecar.emit("counts", "1")
        [delivery] = await ours.wait_for(1)
        held = time.monotonic()
        await until(lambda: time.monotonic() - held > 1)  # three times ack_wait
        await ours.ack(delivery)
        await until(lambda: settled(nats))
        async with nats.jetstream() as jetstream:
            info = await jetstream.consumer_info("counts", "print")
    assert len(ours.deliveries) == 1
    assert info.num_redelivered == 0
