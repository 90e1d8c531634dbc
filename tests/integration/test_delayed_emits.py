"""Delayed emits: NATS keeps them, and they reach actors when they are due. Where that can't be promised, it is refused."""

import contextlib
import datetime as dt
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from support.daemon import config_text, running
from support.grpc_calls import refused, refused_status, stubs
from support.letters import unsettled
from support.nats_server import NatsServer, binary_of, nats_server
from support.receiver import Received, Receiver
from support.route import in_stream
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.v1 import events_pb2

DAY_S = 86400


def config(nats: NatsServer, receiver: Receiver, **parts: Any) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(nats.url, **{"events": [{"name": "counts"}], "actors": [actor], **parts})


@contextlib.asynccontextmanager
async def server_of(version: str, folder: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(folder / "nats", binary=None if version == "newest" else binary_of(version)) as server:
        yield server


def times_of(receiver: Receiver) -> list[tuple[bytes, float]]:
    """Bodies and times of arrival, from now on."""
    arrived: list[tuple[bytes, float]] = []

    async def note(received: Received) -> web.StreamResponse:
        arrived.append((received.body, time.time()))
        return web.Response()

    receiver.answer = note
    return arrived


def receipt(uid: str, **facts: Any) -> dict[str, Any]:
    usual = {"stream": "counts", "sequence": None, "duplicate": False, "scheduled": True, "spooled": False}
    return {"uid": uid, **usual, **facts}


# ---- on time


@pytest.mark.parametrize("version", ["2.12.8", "newest"])
async def test_a_delayed_emit_is_handled_when_it_is_due_and_not_before(version, tmp_path, receiver) -> None:
    arrived = times_of(receiver)
    async with server_of(version, tmp_path) as nats, running(config(nats, receiver)) as sidecar:
        before = time.time()
        headers = {"ce-type": "count", "walnats-header-X-Team": "print"}
        answer = await sidecar.try_emit("counts", "7", uid="one", delay="1200ms", trace_id="t", headers=headers)
        assert answer == (202, receipt("one"))
        await receiver.wait_for(1)
        await until(lambda: _nothing_waits(nats))
        metrics = await sidecar.metrics()
    [(body, at)] = arrived
    assert body == b"7"
    assert at >= before + 1.2
    [received] = receiver.received
    told = {name: received.headers.get(name) for name in ("walnats-uid", "walnats-trace", "ce-type", "x-team")}
    assert told == {"walnats-uid": "one", "walnats-trace": "t", "ce-type": "count", "x-team": "print"}
    assert received.attempt == 1
    own = ("nats-", "walnatsd-", "walnats-delay")
    assert not [name for name in received.headers if name.lower().startswith(own)]
    assert metrics['walnatsd_emits_total{event="counts",outcome="scheduled"}'] == 1
    assert metrics['walnatsd_due_total{event="counts",outcome="stored"}'] == 1
    assert metrics['walnatsd_due_lateness_seconds_count{event="counts"}'] == 1


@pytest.mark.parametrize("version", ["2.10.26", "2.11.11"])
async def test_servers_without_schedules_keep_it_in_the_event_with_the_time_in_a_header(
    version, tmp_path, receiver
) -> None:
    arrived = times_of(receiver)
    async with server_of(version, tmp_path) as nats, running(config(nats, receiver)) as sidecar:
        before = time.time()
        answer = await sidecar.try_emit("counts", "7", uid="one", delay=1)
        assert answer == (201, receipt("one", sequence=1, scheduled=False))
        [(_, headers)] = await stored(nats)
        again = await sidecar.try_emit("counts", "7", uid="one", delay=1)
        assert again == (200, receipt("one", sequence=1, scheduled=False, duplicate=True))
        await until(lambda: _is_settled(nats))
    [(_, at)] = arrived
    assert at >= before + 1
    assert float(headers["Walnats-Delay"]) == pytest.approx(before + 1, abs=0.5)
    assert receiver.received[0].attempt == 1


async def test_deliver_at_says_the_same_over_http_and_grpc(nats, receiver) -> None:
    arrived = times_of(receiver)
    async with running(config(nats, receiver)) as sidecar, stubs(sidecar.grpc) as calls:
        moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.7)
        status, _ = await sidecar.try_emit("counts", "http", deliver_at=moment.isoformat())
        request = events_pb2.EmitRequest(event="counts", payload=b"grpc")
        request.deliver_at.FromDatetime(moment)
        answer = await calls.events.Emit(request)
        assert (status, answer.scheduled, answer.sequence) == (202, True, 0)
        await receiver.wait_for(2)
    assert sorted(body for body, _ in arrived) == [b"grpc", b"http"]
    assert min(at for _, at in arrived) >= moment.timestamp() - 0.001


async def test_batches_and_streams_take_delays_item_by_item(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar, stubs(sidecar.grpc) as calls:
        items = [
            events_pb2.EmitRequest(event="counts", payload=b"now"),
            events_pb2.EmitRequest(event="counts", payload=b"later", delay=Duration(nanos=200_000_000)),
            events_pb2.EmitRequest(event="counts", payload=b"bad", delay=Duration(seconds=-1)),
        ]
        batch = list((await calls.events.EmitBatch(events_pb2.EmitBatchRequest(items=items))).items)
        stream = [result async for result in calls.events.EmitStream(iter(items))]
        for now, later, bad in (batch, stream):
            assert (now.ok.scheduled, now.ok.sequence > 0) == (False, True)
            assert (later.ok.scheduled, later.ok.sequence) == (True, 0)
            assert refused_status(bad.error).reason == "INVALID_TIME"
        await receiver.wait_for(4)
    assert sorted(receiver.bodies) == [b"later", b"later", b"now", b"now"]


@pytest.mark.parametrize(
    "when",
    [
        {"delay": "0"},
        {"delay": "0.0s"},
        {"deliver_at": "2020-02-29T12:00:00Z"},
        {"deliver_at": "1969-07-20t20:17:40.5+00:00"},
    ],
)
async def test_a_time_that_has_passed_means_now(nats, receiver, when) -> None:
    async with running(config(nats, receiver)) as sidecar:
        status, answer = await sidecar.try_emit("counts", "7", uid="one", **when)
        assert (status, answer) == (201, receipt("one", sequence=1, scheduled=False))
        await receiver.wait_for(1)


# ---- the same uid again


async def test_the_first_emit_of_a_uid_stays_and_a_second_one_is_a_duplicate_of_it(nats, receiver) -> None:
    """The server alone would let the second schedule replace the first."""
    events = [{"name": "counts"}, {"name": "others"}]
    async with running(config(nats, receiver, events=events)) as sidecar:
        before = time.time()
        assert (await sidecar.try_emit("counts", "first", uid="one", delay="3s"))[0] == 202
        again = await sidecar.try_emit("counts", "second", uid="one", delay="1h")
        assert again == (200, receipt("one", duplicate=True))
        other = await sidecar.try_emit("others", "other", uid="one", delay="1h")
        assert other == (202, receipt("one", stream="others"))
        await receiver.wait_for(1)
        assert time.time() - before < 60  # it was not put off by the second one
        assert receiver.bodies == [b"first"]


async def test_a_uid_that_came_due_is_a_duplicate_within_the_window_of_the_event(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        await sidecar.try_emit("counts", "first", uid="one", delay="50ms")
        await receiver.wait_for(1)
        assert (await sidecar.try_emit("counts", "now", uid="one"))[1]["duplicate"]
        assert (await sidecar.try_emit("counts", "later", uid="one", delay="50ms"))[0] == 202  # nobody knows yet
        await until(lambda: _counted(sidecar, 'walnatsd_due_total{event="counts",outcome="duplicate"}', 1))
        await until(lambda: _nothing_waits(nats))
    assert receiver.bodies == [b"first"]


@pytest.mark.parametrize(("window", "messages"), [("2m", [b"now"]), ("100ms", [b"now", b"later"])])
async def test_an_immediate_emit_and_one_that_waits_meet_when_it_is_due(nats, window, messages) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts", "duplicate_window": window}])) as sidecar:
        await keep_messages(nats)
        assert (await sidecar.try_emit("counts", "later", uid="one", delay="1s"))[0] == 202
        assert (await sidecar.try_emit("counts", "now", uid="one"))[0] == 201
        await until(lambda: _has_come_due(sidecar))
        assert [payload for payload, _ in await stored(nats)] == messages


# ---- what it is when it is due


async def test_it_goes_to_the_actors_that_the_event_has_when_it_is_due(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await sidecar.try_emit("counts", "7", delay="1s")
        await keep_messages(nats)
        await until(lambda: _has_come_due(sidecar))
        assert [payload for payload, _ in await stored(nats)] == [b"7"]


async def test_codecs_are_applied_when_it_is_emitted_and_undone_for_the_actor(nats, receiver) -> None:
    events = [{"name": "counts", "codecs": [{"gzip": {}}]}]
    async with running(config(nats, receiver, events=events)) as sidecar:
        await sidecar.try_emit("counts", "7" * 1000, delay="3s")
        [(payload, _)] = await stored(nats, "walnatsd")  # it waits there
        assert gzip.decompress(payload) == b"7" * 1000
        await receiver.wait_for(1)
    assert receiver.bodies == [b"7" * 1000]


async def test_a_server_that_learns_schedules_is_used_at_once_and_older_messages_stay_as_they_are(
    tmp_path, receiver
) -> None:
    async with server_of("2.11.11", tmp_path) as nats, running(config(nats, receiver)) as sidecar:
        assert (await sidecar.try_emit("counts", "old", delay="3s"))[0] == 201
        await nats.stop()
        async with nats_server(tmp_path / "nats", port=nats.port):
            await until(lambda: _is_accepted_as_a_schedule(sidecar))
            await until(lambda: {b"old", b"new"} <= set(receiver.bodies))


# ---- what can't be promised

BAD_QUERIES: list[tuple[dict[str, str], str]] = [
    ({"delay": "5", "deliver_at": "2026-12-01T00:00:00Z"}, "give either delay or deliver_at"),
    ({"delay": "-5"}, "write a duration as seconds or like"),
    ({"delay": "nan"}, "write a duration as seconds or like"),
    ({"delay": "inf"}, "write a duration as seconds or like"),
    ({"delay": ""}, "write a duration as seconds or like"),
    ({"delay": "5y"}, "write a duration as seconds or like"),
    ({"delay": "366d"}, "at most a year ahead"),
    ({"delay": "9" * 400}, "finite number of seconds"),
    ({"deliver_at": "2126-01-01T00:00:00Z"}, "at most a year ahead"),
    ({"deliver_at": "9999-12-31T23:59:59Z"}, "at most a year ahead"),
    ({"deliver_at": "2026-02-30T00:00:00Z"}, "a time with its zone"),
    ({"deliver_at": "2026-12-01T00:00:00"}, "a time with its zone"),
    ({"deliver_at": "1796083200"}, "a time with its zone"),
    ({"deliver_at": "tomorrow"}, "a time with its zone"),
    ({"deliver_at": "2026-12-01T00:00:00 01:00"}, "write the + of the zone as %2B"),
]


@pytest.mark.parametrize(("query", "words"), BAD_QUERIES)
async def test_a_time_that_makes_no_sense_is_refused_over_http(nats, query, words) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        status, answer = await sidecar.try_emit("counts", "7", uid="one", **query)
        assert (status, answer["reason"], answer["uid"]) == (400, "INVALID_TIME", "one")
        assert words in answer["detail"]
        assert await in_stream(nats) == 0


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"delay": Duration(seconds=-1)}, "not below zero"),
        ({"delay": Duration(seconds=1, nanos=-1)}, "finite number"),
        ({"delay": Duration(nanos=2_000_000_000)}, "finite number"),
        ({"delay": Duration(seconds=366 * DAY_S)}, "at most a year ahead"),
        ({"delay": Duration(seconds=(1 << 63) - 1)}, "at most a year ahead"),
        ({"deliver_at": Timestamp(seconds=(1 << 63) - 1)}, "years 1 to 9999"),
        ({"deliver_at": Timestamp(seconds=-(1 << 63))}, "years 1 to 9999"),
        ({"deliver_at": Timestamp(seconds=1, nanos=-1)}, "years 1 to 9999"),
        ({"deliver_at": Timestamp(seconds=1, nanos=1_000_000_000)}, "years 1 to 9999"),
    ],
)
async def test_a_time_that_makes_no_sense_is_refused_over_grpc(nats, when, words) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, stubs(sidecar.grpc) as calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.Emit(events_pb2.EmitRequest(event="counts", uid="one", **when))
        assert await in_stream(nats) == 0
    told = refused(caught.value)
    assert (told.code, told.reason, told.uid, told.maybe_stored) == ("INVALID_ARGUMENT", "INVALID_TIME", "one", False)
    assert words in told.message


async def test_a_year_is_the_longest_delay(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        assert (await sidecar.try_emit("counts", "7", delay="365d"))[0] == 202
        assert (await sidecar.try_emit("counts", "7", delay=365 * DAY_S + 1))[0] == 400


async def test_a_delay_longer_than_the_event_keeps_messages_is_refused(nats) -> None:
    events = [{"name": "counts", "limits": {"age": "1h"}}]
    async with running(config_text(nats.url, events=events)) as sidecar:
        assert (await sidecar.try_emit("counts", "7", delay="1h"))[0] == 202
        status, answer = await sidecar.try_emit("counts", "7", delay="61m")
    assert (status, answer["reason"]) == (400, "INVALID_TIME")
    assert "limits.age of 'counts': 3600 s" in answer["detail"]


async def test_an_expected_sequence_can_not_be_kept_for_later(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        for query in ({"delay": "5s"}, {"deliver_at": "2020-01-01T00:00:00Z"}):
            status, answer = await sidecar.try_emit("counts", "7", expected_last_sequence=0, **query)
            assert (status, answer["reason"]) == (400, "INVALID_REQUEST")
            assert "expected_last_sequence goes with neither delay nor deliver_at" in answer["detail"]
        assert await in_stream(nats) == 0


@pytest.mark.parametrize("limits", [{"message_size": "1KiB"}, {"bytes": "1KiB"}])
async def test_what_will_be_too_large_is_refused_at_once(nats, limits) -> None:
    """And what just fits is not: the limit counts without the headers that only the schedule has."""
    async with running(config_text(nats.url, events=[{"name": "counts", "limits": limits}])) as sidecar:
        await keep_messages(nats)
        status, answer = await sidecar.try_emit("counts", b"x" * 2000, uid="one", delay="5s")
        assert (status, answer["reason"], answer["uid"]) == (413, "TOO_LARGE", "one")
        assert (await sidecar.try_emit("counts", b"x" * 850, uid="one", delay="50ms"))[0] == 202
        await until(lambda: _counted(sidecar, 'walnatsd_due_total{event="counts",outcome="stored"}', 1))


async def test_what_the_server_can_not_take_is_refused_at_once(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        status, answer = await sidecar.try_emit("counts", b"x" * (1 << 20), uid="one", delay="5s")
    assert (status, answer["reason"], answer["uid"]) == (413, "TOO_LARGE", "one")
    assert "max_payload" in answer["detail"]


async def test_too_few_actors_are_told_at_once(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts", "min_actors": 1}])) as sidecar:
        status, answer = await sidecar.try_emit("counts", "7", delay="5s")
        assert (status, answer["reason"]) == (409, "NO_ACTORS")
        assert await in_stream(nats) == 0


async def test_while_nats_is_away_the_caller_is_told_and_the_same_uid_is_safe(nats) -> None:
    text = config_text(nats.url, events=[{"name": "counts"}], emit={"timeout": 0.3})
    async with running(text) as sidecar:
        async with nats.frozen():
            status, answer = await sidecar.try_emit("counts", "7", uid="one", delay="1h")
        assert (status, answer["reason"], answer["uid"]) == (503, "NATS_UNAVAILABLE", "one")
        assert answer["maybe_stored"]
        await until(lambda: _is_scheduled(sidecar))
        assert await in_stream(nats) == 1


async def _is_scheduled(sidecar: Any) -> bool:
    """Whether the emit comes through; what it says depends on whether the first try had been stored."""
    status, answer = await sidecar.try_emit("counts", "7", uid="one", delay="1h")
    return (status, answer["duplicate"]) == (200, True)


async def _has_come_due(sidecar: Any) -> bool:
    metrics = await sidecar.metrics()
    return any(
        metrics.get(f'walnatsd_due_total{{event="counts",outcome="{each}"}}') for each in ("stored", "duplicate")
    )


async def _is_accepted_as_a_schedule(sidecar: Any) -> bool:
    return (await sidecar.try_emit("counts", "new", delay="10ms"))[0] == 202


async def _nothing_waits(nats: NatsServer) -> bool:
    return (await in_stream(nats), await unsettled(nats)) == (0, 0)


async def _is_settled(nats: NatsServer) -> bool:
    return await unsettled(nats) == 0


async def _counted(sidecar: Any, name: str, count: int) -> bool:
    return (await sidecar.metrics()).get(name) == count
