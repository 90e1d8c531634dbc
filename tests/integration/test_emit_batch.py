"""EmitBatch: stored in order, one result per item, the good ones whatever the others are."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from support.daemon import Sidecar, config_text, running
from support.grpc_calls import refused, refused_status, stubs
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.broker import publisher
from walnatsd.emit.emitter import Emitter
from walnatsd.emit.request import EmitRequest
from walnatsd.v1 import events_pb2


def config(nats) -> str:
    return config_text(nats.url, events=[{"name": "counts"}, {"name": "small", "limits": {"message_size": "1KiB"}}])


def batch(*items: events_pb2.EmitRequest) -> events_pb2.EmitBatchRequest:
    return events_pb2.EmitBatchRequest(items=items)


def item(event: str = "counts", payload: bytes = b"1", **fields: object) -> events_pb2.EmitRequest:
    return events_pb2.EmitRequest(event=event, payload=payload, **fields)


async def test_items_are_stored_and_answered_in_order(nats) -> None:
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        answer = await calls.events.EmitBatch(
            batch(*(item(payload=str(n).encode(), uid=f"u{n}" if n % 2 else "") for n in range(1000)))
        )
    assert [result.ok.sequence for result in answer.items] == list(range(1, 1001))
    assert all(result.uid == result.ok.uid != "" for result in answer.items)
    assert [result.uid for result in answer.items[1:6:2]] == ["u1", "u3", "u5"]
    messages = await stored(nats)
    assert [int(payload) for payload, _ in messages] == list(range(1000))
    assert [headers["Nats-Msg-Id"] for _, headers in messages] == [result.uid for result in answer.items]


async def test_good_items_are_stored_beside_bad_ones_which_say_what_is_wrong(nats) -> None:
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        answer = await calls.events.EmitBatch(
            batch(
                item(payload=b"first", uid="a"),
                item("nobody", uid="b"),
                item(uid="c\n"),
                item(uid="d", headers={"Nats-Rollup": "all"}),
                item("small", b"x" * 2000, uid="e"),
                item(uid="f", expected_last_sequence=99),
                item(uid="a"),
                item(payload=b"last", uid="g"),
            )
        )
    first, *bad, twice, last = answer.items
    assert [result.WhichOneof("result") for result in answer.items] == ["ok", *["error"] * 5, "ok", "ok"]
    assert (first.ok.duplicate, twice.ok.duplicate, last.ok.duplicate) == (False, True, False)
    assert twice.ok.sequence == first.ok.sequence
    told = [refused_status(result.error) for result in bad]
    assert [(each.code, each.reason) for each in told] == [
        ("NOT_FOUND", "UNKNOWN_EVENT"), ("INVALID_ARGUMENT", "INVALID_UID"), ("INVALID_ARGUMENT", "INVALID_HEADER"),
        ("INVALID_ARGUMENT", "TOO_LARGE"), ("ABORTED", "SEQUENCE"),
    ]  # fmt: skip
    assert [result.uid for result in bad] == ["b", "", "d", "e", "f"]
    assert not any(each.maybe_stored for each in told)
    assert [payload for payload, _ in await stored(nats)] == [b"first", b"last"]


@pytest.mark.parametrize(
    "items",
    [[item()] * 1001, [item(payload=bytes(1 << 20))] * 16 + [item(payload=b"1")]],
    ids=["1,001 items", "more than 16 MiB"],
)
async def test_a_batch_over_the_limits_is_refused_as_a_whole(nats, items) -> None:
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.EmitBatch(batch(*items))
        answer = await calls.events.EmitBatch(batch(item()))
    told = refused(caught.value)
    assert (told.code, told.reason, told.maybe_stored) == ("INVALID_ARGUMENT", "TOO_LARGE", False)
    assert "at most 1000 items and 16 MiB" in told.message
    assert answer.items[0].ok.sequence == 1


async def test_an_empty_batch_is_fine(nats) -> None:
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        assert not (await calls.events.EmitBatch(batch())).items


async def test_items_beyond_what_may_be_in_flight_are_busy_and_the_others_stored(nats) -> None:
    text = config_text(nats.url, events=[{"name": "counts"}], emit={"max_in_flight": 10})
    async with running(text) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        answer = await calls.events.EmitBatch(batch(*[item()] * 15))
    assert [result.WhichOneof("result") for result in answer.items] == ["ok"] * 10 + ["error"] * 5
    assert {refused_status(result.error).reason for result in answer.items[10:]} == {"BUSY"}
    assert len(await stored(nats)) == 10


async def test_a_batch_under_way_when_nats_hangs_for_a_while_is_stored_once_and_in_order(nats, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.3)
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        async with nats.frozen():
            answering = asyncio.ensure_future(
                calls.events.EmitBatch(batch(*(item(payload=b"%d" % n) for n in range(50))))
            )
            await asyncio.wait([answering], timeout=1)  # all first tries have failed by then
            assert not answering.done()
        answer = await answering
    assert [result.ok.sequence for result in answer.items] == list(range(1, 51))
    assert not any(result.ok.duplicate for result in answer.items)
    assert [int(payload) for payload, _ in await stored(nats)] == list(range(50))


async def test_a_batch_waits_for_nats_no_longer_than_one_emit_and_says_of_each_item_that_it_may_be_stored(nats) -> None:
    text = config_text(nats.url, events=[{"name": "counts"}], emit={"timeout": 6})
    async with running(text) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        async with nats.frozen(), asyncio.timeout(15):
            answer = await calls.events.EmitBatch(batch(*[item()] * 20))
        told = [refused_status(result.error) for result in answer.items]
    assert {(each.code, each.reason, each.maybe_stored) for each in told} == {("UNAVAILABLE", "NATS_UNAVAILABLE", True)}
    assert all("within 6 s" in each.message for each in told)


async def test_a_caller_that_leaves_takes_up_no_room(nats, monkeypatch) -> None:
    emit_all, taken_in = Emitter.emit_all, asyncio.Event()

    async def note(emitter: Emitter, requests: Sequence[EmitRequest], **options: Any) -> Any:
        taken_in.set()  # who waits for it goes on after the first step of emit_all, in which all items are sent
        return await emit_all(emitter, requests, **options)

    monkeypatch.setattr(Emitter, "emit_all", note)
    text = config_text(nats.url, events=[{"name": "counts"}], emit={"max_in_flight": 10})
    async with running(text) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        async with nats.frozen():
            leaving = asyncio.ensure_future(calls.events.EmitBatch(batch(*[item()] * 10)))
            await taken_in.wait()
            [result] = (await calls.events.EmitBatch(batch(item()))).items
            assert refused_status(result.error).reason == "BUSY"
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving
            await until(lambda: cancelled(sidecar))
        answer = await calls.events.EmitBatch(batch(*[item()] * 10))
    assert all(result.HasField("ok") for result in answer.items)


async def test_a_caller_that_leaves_before_its_items_have_begun_to_wait_takes_up_no_room(nats, monkeypatch) -> None:
    """The tasks of such items were cancelled before their first step, and their room was never given back."""
    emit_all = Emitter.emit_all

    async def leave_at_once(emitter: Emitter, requests: Sequence[EmitRequest], **options: Any) -> Any:
        emitting = asyncio.create_task(emit_all(emitter, requests, **options))
        asyncio.get_running_loop().call_soon(emitting.cancel)  # after its first step, before that of its tasks
        return await emitting

    text = config_text(nats.url, events=[{"name": "counts"}], emit={"max_in_flight": 10})
    async with running(text) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        await nats.kill()
        await until(lambda: is_away(sidecar))
        with monkeypatch.context() as patched:
            patched.setattr(Emitter, "emit_all", leave_at_once)
            with pytest.raises(grpc.aio.AioRpcError):  # gRPC never answers where a handler was cancelled by another
                await calls.events.EmitBatch(batch(*[item()] * 10), timeout=1)
        assert await cancelled(sidecar)
        await nats.start()
        answer = await calls.events.EmitBatch(batch(*[item()] * 10))
    assert all(result.HasField("ok") for result in answer.items)


async def is_away(sidecar: Sidecar) -> bool:
    return (await sidecar.readiness())[0] == 503


async def cancelled(sidecar: Sidecar) -> bool:
    return (await sidecar.metrics()).get('walnatsd_emits_total{event="counts",outcome="cancelled"}') == 10
