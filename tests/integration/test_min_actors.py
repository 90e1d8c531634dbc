"""`min_actors`: emits are refused while the event has fewer actors in NATS, whoever adds or deletes them."""

import asyncio
from typing import Any

import pytest

from support.daemon import config_text, running
from support.doors import both_doors, door, receipt, refusal
from support.grpc_calls import refused_status, stubs
from support.nats_server import NatsServer
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.broker import interest
from walnatsd.v1 import events_pb2

CODE = {"grpc": "FAILED_PRECONDITION", "http": "409"}


def text_for(nats: NatsServer, least: int = 1, **parts: Any) -> str:
    return config_text(nats.url, events=[{"name": "counts", "min_actors": least}], **parts)


async def info_requests(nats: NatsServer) -> int:
    """How often anybody has asked for the info of a stream."""
    async with nats.jetstream() as jetstream:
        return int((await jetstream._api_request("$JS.API.INFO", b""))["api"]["total"])


@both_doors
async def test_an_emit_without_enough_actors_is_refused_until_there_are_enough(nats, kind) -> None:
    async with running(text_for(nats, 2)) as sidecar, door(kind, sidecar) as emitter, nats.jetstream() as jetstream:
        none = refusal(await emitter.emit("counts", b"1", uid="u"))
        await keep_messages(nats)
        one = refusal(await emitter.emit("counts", b"1", uid="u"))
        await jetstream.add_consumer("counts", durable_name="second")
        enough = receipt(await emitter.emit("counts", b"1", uid="u"))
    assert (none.code, none.reason, none.uid, none.maybe_stored) == (CODE[kind], "NO_ACTORS", "u", False)
    assert "'counts' has 0 actors in NATS and min_actors is 2" in none.message
    assert "'counts' has 1 actor in NATS" in one.message
    assert enough["duplicate"] is False  # a refused emit leaves no uid behind
    assert len(await stored(nats)) == 1


async def test_an_actor_that_somebody_deletes_is_missed_when_the_count_is_old(nats, monkeypatch) -> None:
    monkeypatch.setattr(interest, "KNOWN_FOR_S", 0.0)
    async with running(text_for(nats)) as sidecar, door("grpc", sidecar) as emitter, nats.jetstream() as jetstream:
        await keep_messages(nats)
        receipt(await emitter.emit("counts", b"1"))
        await jetstream.delete_consumer("counts", "keeper")
        missed = refusal(await emitter.emit("counts", b"2"))
    assert missed.reason == "NO_ACTORS"


async def test_many_emits_ask_once_and_those_of_other_events_never(nats, monkeypatch) -> None:
    monkeypatch.setattr(interest, "KNOWN_FOR_S", 3600.0)
    events = [{"name": "counts", "min_actors": 1}, {"name": "others"}]
    async with running(config_text(nats.url, events=events)) as sidecar, door("grpc", sidecar) as emitter:
        await keep_messages(nats)
        before = await info_requests(nats)
        await asyncio.gather(*(emitter.emit("others", b"1") for _ in range(100)))
        between = await info_requests(nats)
        answers = await asyncio.gather(*(emitter.emit("counts", b"1") for _ in range(100)))
        after = await info_requests(nats)
    assert all(receipt(answer) for answer in answers)
    own = 1  # the server counts the very question too
    watched = 2  # the watch may look meanwhile, with two requests an event
    assert between - before <= own + 2 * watched
    assert own + 1 <= after - between <= own + 1 + 2 * watched


async def test_emits_that_wait_for_the_same_count_are_all_refused_by_it(nats) -> None:
    async with running(text_for(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        items = [events_pb2.EmitRequest(event="counts", payload=b"1", uid=f"u{n}") for n in range(100)]
        answer = await calls.events.EmitBatch(events_pb2.EmitBatchRequest(items=items))
    told = [refused_status(result.error) for result in answer.items]
    assert {(each.code, each.reason) for each in told} == {("FAILED_PRECONDITION", "NO_ACTORS")}
    assert [each.uid for each in told] == [f"u{n}" for n in range(100)]


async def test_actors_declared_here_count_from_the_start(nats, receiver) -> None:
    actors = [{"name": "print", "event": "counts", "url": receiver.url}]
    async with running(text_for(nats, actors=actors), ready=False) as sidecar:
        await sidecar.emit("counts", "1")  # it waits for the registration
        await receiver.wait_for(1)


@both_doors
async def test_while_nats_is_away_nobody_knows_and_the_caller_hears_that(nats, kind) -> None:
    async with running(text_for(nats, emit={"timeout": 0.3})) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        receipt(await emitter.emit("counts", b"1"))
        await nats.stop()
        away = refusal(await emitter.emit("counts", b"2", uid="u"))
        await nats.start()
        await until(sidecar.is_ready)
        assert receipt(await emitter.emit("counts", b"2", uid="u"))["duplicate"] is False
    assert (away.reason, away.maybe_stored) == ("NATS_UNAVAILABLE", False)


async def test_a_server_that_does_not_answer_leaves_no_doubt_that_nothing_was_stored(nats, monkeypatch) -> None:
    monkeypatch.setattr(interest, "KNOWN_FOR_S", 0.0)
    async with running(text_for(nats, emit={"timeout": 0.3})) as sidecar, door("grpc", sidecar) as emitter:
        await keep_messages(nats)
        async with nats.frozen():
            silent = refusal(await emitter.emit("counts", b"2", uid="u"))
    assert (silent.reason, silent.maybe_stored) == ("NATS_UNAVAILABLE", False)
    assert "nobody can tell whether the event has enough actors" in silent.message


async def test_actors_that_went_with_a_server_in_memory_are_missed_at_once(nats, monkeypatch) -> None:
    """The stream comes back by itself, its consumer of somebody else does not: an old count would lose the message."""
    monkeypatch.setattr(interest, "KNOWN_FOR_S", 3600.0)
    async with running(text_for(nats)) as sidecar, door("grpc", sidecar) as emitter, nats.jetstream() as jetstream:
        await keep_messages(nats)
        receipt(await emitter.emit("counts", b"1"))
        await jetstream.delete_stream("counts")
        gone = refusal(await emitter.emit("counts", b"2"))
    assert gone.reason == "NO_ACTORS"


@pytest.mark.parametrize("least", [0, None])
async def test_without_it_a_message_that_nobody_wants_is_acknowledged_and_not_kept(nats, least) -> None:
    event = {"name": "counts"} | ({} if least is None else {"min_actors": least})
    async with running(config_text(nats.url, events=[event])) as sidecar:
        assert (await sidecar.emit("counts", "1", uid="u"))["duplicate"] is False
        await keep_messages(nats)
        assert (await sidecar.emit("counts", "1", uid="u"))["duplicate"] is True
    assert await stored(nats) == []


async def test_an_event_registered_over_grpc_may_want_actors_too(nats) -> None:
    async with (
        running(config_text(nats.url)) as sidecar,
        stubs(sidecar.grpc) as calls,
        door("http", sidecar) as emitter,
    ):
        event = events_pb2.Event(name="counts", min_actors=1)
        await calls.events.Register(events_pb2.RegisterEventsRequest(events=[event]))
        assert refusal(await emitter.emit("counts")).reason == "NO_ACTORS"
