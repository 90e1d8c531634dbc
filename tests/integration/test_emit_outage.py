"""Emitting while NATS is away or slow: stored once within the budget, or an honest answer."""

import asyncio
import time

import grpc
import pytest

from support.daemon import config_text, running
from support.doors import both_doors, door, receipt, refusal
from support.grpc_calls import stubs
from support.nats_server import NatsServer
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.broker import publisher
from walnatsd.v1 import events_pb2

UNAVAILABLE = {"grpc": "UNAVAILABLE", "http": "503"}


def config(nats: NatsServer, timeout: float = 15) -> str:
    return config_text(nats.url, events=[{"name": "counts"}], emit={"timeout": timeout})


@both_doors
async def test_without_nats_the_answer_comes_after_the_timeout_and_says_that_nothing_was_stored(nats, kind) -> None:
    await nats.stop()
    async with running(config(nats, 0.3), ready=False) as sidecar, door(kind, sidecar) as emitter:
        began = time.monotonic()
        answer = refusal(await emitter.emit("counts", uid="u"))
        assert time.monotonic() - began >= 0.3
        metrics = await sidecar.metrics()
    assert (answer.code, answer.reason, answer.uid) == (UNAVAILABLE[kind], "NATS_UNAVAILABLE", "u")
    assert answer.maybe_stored is False
    assert answer.retry_after_s == 1
    assert "within 0.3 s" in answer.message
    assert metrics['walnatsd_emits_total{event="counts",outcome="NATS_UNAVAILABLE"}'] == 1


@both_doors
async def test_a_nats_that_hangs_may_have_stored_it_and_a_retry_with_the_same_uid_stores_once(nats, kind) -> None:
    async with running(config(nats, 0.5)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        async with nats.frozen():
            answer = refusal(await emitter.emit("counts", b"one", uid="u"))
        assert (answer.code, answer.reason, answer.uid) == (UNAVAILABLE[kind], "NATS_UNAVAILABLE", "u")
        assert answer.maybe_stored is True
        again = receipt(await emitter.emit("counts", b"one", uid="u"))
    assert again["sequence"] == 1
    assert [payload for payload, _ in await stored(nats)] == [b"one"]


@both_doors
@pytest.mark.parametrize("uid", ["given", ""])
async def test_a_nats_that_hangs_within_the_budget_stores_it_once(nats, kind, uid, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.3)
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        async with nats.frozen():
            emits = [
                asyncio.create_task(emitter.emit("counts", b"x", uid=uid + str(n) if uid else "")) for n in range(5)
            ]
            await asyncio.wait(emits, timeout=0.8)  # beyond the wait for one ack, so that each is sent again
        answers = [receipt(answer) for answer in await asyncio.gather(*emits)]
    assert sorted(answer["sequence"] for answer in answers) == [1, 2, 3, 4, 5]
    assert len(await stored(nats)) == 5
    if not uid:
        assert not any(answer["duplicate"] for answer in answers)


@both_doors
async def test_an_emit_during_a_restart_of_nats_is_stored(nats, kind) -> None:
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        await nats.stop()
        emits = [asyncio.create_task(emitter.emit("counts", str(n).encode(), uid=f"u{n}")) for n in range(20)]
        await until(lambda: _is_waiting(sidecar))
        await nats.start()
        answers = [receipt(answer) for answer in await asyncio.gather(*emits)]
    assert len({answer["sequence"] for answer in answers}) == 20
    assert sorted(int(payload) for payload, _ in await stored(nats)) == list(range(20))


async def _is_waiting(sidecar) -> bool:
    return not await sidecar.is_ready()


async def test_the_deadline_of_a_grpc_caller_ends_the_emit_and_the_caller_sees_our_answer(nats) -> None:
    async with running(config(nats)) as sidecar, door("grpc", sidecar) as emitter, nats.frozen():
        began = time.monotonic()
        answer = refusal(await emitter.emit("counts", uid="u", timeout_s=1))
        took_s = time.monotonic() - began
    assert took_s < 1
    assert (answer.code, answer.reason, answer.maybe_stored) == ("UNAVAILABLE", "NATS_UNAVAILABLE", True)


async def test_a_deadline_longer_than_emit_timeout_does_not_prolong_it(nats) -> None:
    await nats.stop()
    async with running(config(nats, 0.2), ready=False) as sidecar, door("grpc", sidecar) as emitter:
        answer = refusal(await emitter.emit("counts", uid="u", timeout_s=60))
    assert (answer.reason, answer.maybe_stored) == ("NATS_UNAVAILABLE", False)


async def test_the_deadline_holds_for_a_batch_too_and_every_item_has_its_answer(nats) -> None:
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as grpc_, nats.frozen():
        items = [events_pb2.EmitRequest(event="counts", uid=f"u{n}") for n in range(3)]
        answer = await grpc_.events.EmitBatch(events_pb2.EmitBatchRequest(items=items), timeout=1)
    assert [item.uid for item in answer.items] == ["u0", "u1", "u2"]
    assert {item.error.code for item in answer.items} == {grpc.StatusCode.UNAVAILABLE.value[0]}


@both_doors
async def test_a_stream_that_somebody_deleted_is_told_as_unavailable_and_nothing_was_stored(nats, kind) -> None:
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
    may_not_create = config_text(
        nats.url, nats={"manage": {"create": False}}, events=[{"name": "counts"}], emit={"timeout": 0.4}
    )
    async with running(may_not_create) as sidecar, door(kind, sidecar) as emitter:
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("counts")
        answer = refusal(await emitter.emit("counts", uid="u"))
    assert (answer.code, answer.reason, answer.maybe_stored) == (UNAVAILABLE[kind], "NATS_UNAVAILABLE", False)
    assert "the stream was deleted" in answer.message


async def test_a_batch_that_has_to_be_sent_again_takes_no_longer_for_its_last_item(nats, monkeypatch) -> None:
    """Each item pauses before it is sent again: one after the other, the pauses of 500 would take most of a minute."""
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.3)
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as grpc_:
        await keep_messages(nats)
        items = [events_pb2.EmitRequest(event="counts", uid=f"u{n}") for n in range(500)]
        async with nats.frozen():
            call = asyncio.ensure_future(grpc_.events.EmitBatch(events_pb2.EmitBatchRequest(items=items)))
            await asyncio.wait([call], timeout=0.8)  # beyond the wait for one ack, so that each is sent again
        answer = await call
    assert [item.uid for item in answer.items if item.HasField("ok")] == [f"u{n}" for n in range(500)]
    assert len(await stored(nats)) == 500


@both_doors
async def test_an_emit_behind_an_expected_one_that_has_to_be_sent_again_is_not_refused_because_of_itself(
    nats, kind, monkeypatch
) -> None:
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.3)
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        async with nats.frozen():
            emit = asyncio.create_task(emitter.emit("counts", b"1", expected_last_sequence=0))
            await asyncio.wait([emit], timeout=0.8)  # beyond the wait for one ack, so that it is sent again
        answer = receipt(await emit)
        other = refusal(await emitter.emit("counts", b"2", uid="other", expected_last_sequence=0))
    assert (answer["sequence"], answer["duplicate"]) == (1, False)
    assert (other.reason, other.maybe_stored) == ("SEQUENCE", False)
    assert len(await stored(nats)) == 1
