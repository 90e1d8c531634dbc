"""What nats-server does at each limit, on every version: who is told, what is lost, and how that is counted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from support.daemon import Sidecar, config_text, running
from support.doors import both_doors, door, receipt, refusal
from support.grpc_calls import refused, stubs
from support.nats_server import OLDER_VERSIONS, NatsServer, binary_of, nats_server
from support.receiver import Receiver, answers
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.api import watch
from walnatsd.v1 import actors_pb2

every_version = pytest.mark.parametrize("version", [*OLDER_VERSIONS, "newest"])


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.05)


@contextlib.asynccontextmanager
async def server_of(version: str, folder: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(folder / "nats", binary=None if version == "newest" else binary_of(version)) as server:
        yield server


def text_for(nats: NatsServer, *actors: dict[str, Any], **limits: Any) -> str:
    return config_text(
        nats.url, events=[{"name": "counts", "description": "Numbers.", "limits": limits}], actors=list(actors)
    )


def actor(receiver: Receiver, **options: Any) -> dict[str, Any]:
    return {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05]}} | options


async def dropped(sidecar: Sidecar, state: str, name: str = "print") -> float:
    labels = f'actor="{name}",event="counts",state="{state}"'
    return (await sidecar.metrics()).get(f"walnatsd_dropped_total{{{labels}}}", 0)


async def counted(sidecar: Sidecar, number: int, state: str = "waiting", name: str = "print") -> bool:
    return await dropped(sidecar, state, name) == number


async def looked(sidecar: Sidecar, nats: NatsServer) -> None:
    """Wait until the watch has looked at everything once more: it then reports a key that was changed."""
    async with nats.jetstream() as jetstream:
        config = (await jetstream.stream_info("counts")).config
        before = config.description
        for description, drift in (("changed", 1), (before, 0)):
            config.description = description
            await jetstream.update_stream(config)

            async def seen(drift: int = drift) -> bool:
                metrics = await sidecar.metrics()
                return metrics.get('walnatsd_drift{actor="",event="counts",kind="event"}', 0) == drift

            await until(seen)


# ---- messages and bytes


@every_version
async def test_the_oldest_are_dropped_and_counted_for_the_actor_that_had_not_seen_them(
    version, tmp_path, receiver
) -> None:
    async with server_of(version, tmp_path) as nats:
        text = text_for(nats, actor(receiver, wait_for=receiver.url), messages=3)
        receiver.answer = answers(then=503)  # the actor is away: nothing is pulled
        async with running(text) as sidecar:
            await looked(sidecar, nats)
            for number in range(5):
                await sidecar.emit("counts", str(number))  # each is acknowledged all the same
            await until(lambda: counted(sidecar, 2))
            receiver.answer = answers(then=204)
            await until(lambda: len({body for body in receiver.bodies if body}) == 3)
            await looked(sidecar, nats)
            assert await dropped(sidecar, "waiting") == 2  # none is counted twice when the actor is back
            assert await dropped(sidecar, "handed-over") == 0
    assert {body for body in receiver.bodies if body} == {b"2", b"3", b"4"}


async def test_counting_begins_anew_with_a_connection_and_goes_on(nats, receiver) -> None:
    receiver.answer = answers(then=503)
    async with running(text_for(nats, actor(receiver, wait_for=receiver.url), messages=3)) as sidecar:
        await looked(sidecar, nats)
        for number in range(5):
            await sidecar.emit("counts", str(number))
        await until(lambda: counted(sidecar, 2))
        await nats.kill()
        await nats.start()
        await until(sidecar.is_ready)
        await looked(sidecar, nats)
        assert await dropped(sidecar, "waiting") == 2
        await sidecar.emit("counts", "5")
        await until(lambda: counted(sidecar, 3))


@every_version
async def test_a_message_that_waits_for_its_retry_is_dropped_too_and_counted(version, tmp_path, receiver) -> None:
    async with server_of(version, tmp_path) as nats:
        receiver.answer = answers(then=500)
        text = text_for(nats, actor(receiver, retry={"delays": [30], "max_attempts": None}), messages=2)
        async with running(text) as sidecar:
            await looked(sidecar, nats)
            for number in range(4):
                await sidecar.emit("counts", str(number))
                await receiver.wait_for(number + 1)
            await until(lambda: counted(sidecar, 2, "handed-over"))
            assert await dropped(sidecar, "waiting") == 0
            assert [payload for payload, _ in await stored(nats)] == [b"2", b"3"]


async def test_an_attempt_in_progress_at_a_dropped_message_goes_on_but_has_no_second_one(nats, receiver) -> None:
    go_on = asyncio.Event()

    async def slow_failure(received: object) -> web.StreamResponse:
        if receiver.received[0] is received:
            await go_on.wait()
            return web.Response(status=500)
        return web.Response()

    receiver.answer = slow_failure
    async with running(text_for(nats, actor(receiver), messages=1)) as sidecar:
        await looked(sidecar, nats)
        await sidecar.emit("counts", "0")
        await receiver.wait_for(1)
        await sidecar.emit("counts", "1")
        await until(lambda: dropped(sidecar, "handed-over"))
        go_on.set()
        await receiver.wait_for(2)
        await until(lambda: settled(nats))
    assert receiver.bodies == [b"0", b"1"]


async def settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        consumer = await jetstream.consumer_info("counts", "print")
        return (consumer.num_ack_pending, consumer.num_pending) == (0, 0)


async def test_drops_are_counted_for_each_actor_and_for_consumers_of_others_under_one_name(nats, receiver) -> None:
    text = text_for(nats, actor(receiver), messages=2)
    async with running(text) as sidecar:
        await keep_messages(nats)
        await looked(sidecar, nats)
        for number in range(5):
            await sidecar.emit("counts", str(number))
            await receiver.wait_for(number + 1)
        await until(lambda: counted(sidecar, 3, name="(others)"))
        await looked(sidecar, nats)
        assert await dropped(sidecar, "waiting", "(others)") == 3
        assert await dropped(sidecar, "waiting") == 0
        assert len(receiver.received) == 5


async def test_what_somebody_purges_is_counted_where_it_was_not_handed_over(nats, receiver) -> None:
    receiver.answer = answers(then=503)
    async with running(text_for(nats, actor(receiver, wait_for=receiver.url))) as sidecar:
        await looked(sidecar, nats)
        for number in range(3):
            await sidecar.emit("counts", str(number))
        async with nats.jetstream() as jetstream:
            await jetstream.purge_stream("counts")
        await until(lambda: counted(sidecar, 3))


@both_doors
@pytest.mark.parametrize("limits", [{"messages": 2}, {"bytes": 200}], ids=str)
@every_version
async def test_a_full_event_that_refuses_drops_nothing_and_still_knows_what_it_has(
    version, tmp_path, kind, limits
) -> None:
    async with server_of(version, tmp_path) as nats:
        text = text_for(nats, **limits, when_full="refuse")
        async with running(text) as sidecar, door(kind, sidecar) as emitter, nats.jetstream() as jetstream:
            await keep_messages(nats)
            for number in range(2):
                receipt(await emitter.emit("counts", b"1", uid=f"u{number}"))
            full = refusal(await emitter.emit("counts", b"2" * 100, uid="u2"))
            assert receipt(await emitter.emit("counts", b"1", uid="u0"))["duplicate"] is True
            assert [payload for payload, _ in await stored(nats)] == [b"1", b"1"]
            [message] = await (await jetstream.pull_subscribe_bind("keeper", "counts")).fetch(1)
            await message.ack_sync()
            assert receipt(await emitter.emit("counts", b"2", uid="u2"))["duplicate"] is False
    assert (full.reason, full.maybe_stored) == ("EVENT_FULL", False)
    assert full.code in ("RESOURCE_EXHAUSTED", "507")
    assert "when_full" in full.message


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("when_full", ["drop_oldest", "refuse"])
@every_version
async def test_a_message_larger_than_the_whole_stream_is_refused_before_it_costs_all_others(
    version, tmp_path, when_full, storage
) -> None:
    """The server would acknowledge it and drop everything, the message too."""
    async with server_of(version, tmp_path) as nats:
        event = {"name": "counts", "limits": {"bytes": 1000, "when_full": when_full}, "storage": storage}
        async with running(config_text(nats.url, events=[event])) as sidecar, door("http", sidecar) as emitter:
            await keep_messages(nats)
            receipt(await emitter.emit("counts", b"small", uid="s"))
            large = refusal(await emitter.emit("counts", b"x" * 1000, uid="l"))
            assert [payload for payload, _ in await stored(nats)] == [b"small"]
            if when_full == "drop_oldest":
                await see_that_it_is_exact(nats, emitter)
    assert (large.code, large.reason, large.maybe_stored) == ("413", "TOO_LARGE", False)
    assert "limits.bytes" in large.message


async def see_that_it_is_exact(nats: NatsServer, emitter: Any) -> None:
    """What is just not too large is kept by the server, and one byte more is not."""
    taken, refused = 0, 1000
    while refused - taken > 1:
        size = (taken + refused) // 2
        answer = await emitter.emit("counts", b"x" * size, uid=f"{size:04}")
        if isinstance(answer, dict):
            taken = size
        else:
            refused = size
    [(payload, header)] = await stored(nats)
    assert len(payload) == taken
    async with nats.jetstream() as jetstream:
        await jetstream.publish("counts", b"x" * refused, headers=header | {"Nats-Msg-Id": f"{refused:04}"})
        assert (await jetstream.stream_info("counts")).state.messages == 0


# ---- age


@every_version
async def test_what_gets_too_old_is_gone_and_counted_whether_it_was_handed_over_or_not(
    version, tmp_path, receiver
) -> None:
    async with server_of(version, tmp_path) as nats:
        receiver.answer = answers(then=500)
        only = actor(receiver, max_ack_pending=1, retry={"delays": [30], "max_attempts": None})
        async with running(text_for(nats, only, age="3s")) as sidecar:
            await looked(sidecar, nats)
            for number in range(3):
                await sidecar.emit("counts", str(number))
            await receiver.wait_for(1)
            await until(lambda: dropped(sidecar, "handed-over"))
            await until(lambda: dropped(sidecar, "waiting"))
            await until(lambda: nothing_stored(nats))
            await looked(sidecar, nats)
            total = await dropped(sidecar, "handed-over") + await dropped(sidecar, "waiting")
    assert total == 3


async def nothing_stored(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        return (await jetstream.stream_info("counts")).state.messages == 0


# ---- message_size


@every_version
async def test_message_size_is_the_largest_with_headers_and_nothing_is_stored_above_it(version, tmp_path) -> None:
    async with (
        server_of(version, tmp_path) as nats,
        running(text_for(nats, message_size=300)) as sidecar,
        door("http", sidecar) as emitter,
    ):
        await keep_messages(nats)
        fits = receipt(await emitter.emit("counts", b"x" * 200, uid="a"))
        payload = refusal(await emitter.emit("counts", b"x" * 301, uid="b"))
        headers = refusal(await emitter.emit("counts", b"x" * 200, uid="c", headers={"X-A": "a" * 100}))
        assert len(await stored(nats)) == 1
    assert fits["sequence"] == 1
    for large in (payload, headers):
        assert (large.code, large.reason, large.maybe_stored) == ("413", "TOO_LARGE", False)
        assert "limits.message_size" in large.message


# ---- consumers


@every_version
async def test_one_actor_too_many_is_refused_and_those_that_there_are_are_named(version, tmp_path, receiver) -> None:
    second = actors_pb2.RegisterActorsRequest(actors=[actors_pb2.Actor(event="counts", name="second")])
    async with (
        server_of(version, tmp_path) as nats,
        running(text_for(nats, actor(receiver), consumers=1)) as sidecar,
        stubs(sidecar.grpc) as calls,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.actors.Register(second)
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
    told = refused(caught.value)
    assert (told.code, told.reason) == ("FAILED_PRECONDITION", "CONFLICT")
    assert "'second'" in told.message
    assert "limits.consumers" in told.message
    assert "print" in told.message


async def test_an_actor_of_the_file_beyond_the_limit_makes_the_daemon_unready_and_the_others_go_on(
    nats, receiver
) -> None:
    actors = [actor(receiver), actor(receiver, name="second")]
    async with running(text_for(nats, *actors, consumers=1), ready=False) as sidecar:

        async def told() -> str:
            return next((why for why in (await sidecar.readiness())[1].values() if "limits.consumers" in why), "")

        why = await until(told)
        async with nats.jetstream() as jetstream:
            [there] = [info.name for info in await jetstream.consumers_info("counts")]
            assert there in why
            await sidecar.emit("counts", "1")
            await receiver.wait_for(1)


async def test_the_limit_of_consumers_is_written_at_creation_only(nats) -> None:
    async with running(text_for(nats, consumers=1)):
        pass
    async with running(text_for(nats, consumers=2)) as sidecar:
        metrics = await sidecar.metrics()
        assert metrics['walnatsd_drift{actor="",event="counts",kind="event"}'] == 1


# ---- the server's own


@every_version
async def test_a_server_without_room_is_waited_for_and_nothing_is_said_to_be_stored(version, tmp_path) -> None:
    async with server_of(version, tmp_path) as nats:
        await nats.stop()
        small = {"jetstream": {"store_dir": str(tmp_path / "small"), "max_mem": 1 << 20, "max_file": 60_000}}
        nats._options = small
        await nats.start()
        text = config_text(
            nats.url,
            events=[{"name": "counts"}],
            emit={"timeout": 0.5},
            dead_letters={"bytes": 10_000},
        )
        async with running(text, ready=False) as sidecar, door("http", sidecar) as emitter:
            await until(lambda: has_stream(nats))
            await keep_messages(nats)
            answers_ = [await emitter.emit("counts", b"x" * 20_000, uid=f"u{n}") for n in range(4)]
    full = refusal(answers_[-1])
    assert (full.code, full.reason, full.maybe_stored) == ("503", "NATS_UNAVAILABLE", False)
    assert "storage" in full.message


async def has_stream(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        return "counts" in [info.config.name for info in await jetstream.streams_info()]
