"""Registering: what would discard is refused, what can't be is explained, what isn't written is drift."""

import json
from typing import Any

import grpc
import pytest

from support.daemon import Sidecar, config_text, running
from support.grpc_calls import Refused, refused, stubs
from support.nats_server import NatsServer
from support.streams import stored
from support.waiting import until
from walnatsd.v1 import actors_pb2, events_pb2

STREAM = {"name": "counts", "subjects": ["counts"], "retention": "interest"}
CONSUMER = {"durable_name": "act", "name": "act", "ack_policy": "explicit"}
ACTOR = {"name": "act", "event": "counts", "url": "http://127.0.0.1:1/"}
PROTO_ACTOR = actors_pb2.Actor(**ACTOR)


async def request(nats: NatsServer, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    async with nats.jetstream() as jetstream:
        return await jetstream._api_request(f"$JS.API.{subject}", json.dumps(body).encode() if body else b"")


async def create_stream(nats: NatsServer, **config: Any) -> None:
    await request(nats, f"STREAM.CREATE.{config.get('name', 'counts')}", STREAM | config)


async def create_consumer(nats: NatsServer, **config: Any) -> None:
    body = {"stream_name": "counts", "action": "create", "config": CONSUMER | config}
    await request(nats, "CONSUMER.CREATE.counts.act", body)


async def register(sidecar: Sidecar, *events: events_pb2.Event, actors: tuple[actors_pb2.Actor, ...] = ()) -> Any:
    """Register over gRPC; give the outcomes of all, or what the refusal says."""
    async with stubs(sidecar.grpc) as calls:
        try:
            one = await calls.events.Register(events_pb2.RegisterEventsRequest(events=events))
            two = await calls.actors.Register(actors_pb2.RegisterActorsRequest(actors=actors))
        except grpc.aio.AioRpcError as error:
            return refused(error)
        return [*one.events, *two.actors]


COUNTS = events_pb2.Event(name="counts")


# ---- conflicts


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"subjects": ["counts", "more"]}, "has the subjects counts, more, but the event 'counts' needs it to have just 'counts'"),
        ({"subjects": ["other"]}, "has the subjects other"),
        ({"retention": "limits"}, "has the retention 'limits'; an event's is 'interest'"),
        ({"retention": "workqueue"}, "has the retention 'workqueue'"),
        ({"no_ack": True}, "does not acknowledge what it stores"),
    ],
)  # fmt: skip
async def test_a_stream_that_is_no_events_is_a_conflict_in_words(nats, config, words) -> None:
    await create_stream(nats, **config)
    before = (await request(nats, "STREAM.INFO.counts"))["config"]
    async with running(config_text(nats.url)) as sidecar:
        answer = await register(sidecar, COUNTS)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "CONFLICT")
    assert "the stream 'counts'" in answer.message
    assert words in answer.message
    assert (await request(nats, "STREAM.INFO.counts"))["config"] == before


async def test_a_subject_that_another_stream_has_is_a_conflict_in_words(nats) -> None:
    await create_stream(nats, name="everything", subjects=["*"])
    async with running(config_text(nats.url)) as sidecar:
        answer = await register(sidecar, COUNTS)
    assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "CONFLICT")
    assert "subjects overlap with an existing stream" in answer.message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"deliver_subject": "push.me"}, "is a push consumer, an actor needs a pull consumer"),
        ({"ack_policy": "all"}, "has the ack policy 'all', an actor's is explicit"),
        ({"ack_policy": "none"}, "has the ack policy 'none'"),
    ],
)
async def test_a_consumer_that_no_actor_can_use_is_a_conflict_in_words(nats, config, words) -> None:
    await create_stream(nats)
    try:
        await create_consumer(nats, **config)
    except Exception as error:  # noqa: BLE001 - the server's own rule, told by its text
        pytest.skip(f"the server does not allow it at all: {error}")
    async with running(config_text(nats.url)) as sidecar:
        answer = await register(sidecar, COUNTS, actors=(PROTO_ACTOR,))
    assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "CONFLICT")
    assert "the consumer 'act' of the stream 'counts'" in answer.message
    assert words in answer.message


async def test_a_conflict_of_the_file_keeps_the_daemon_from_being_ready_but_not_the_other_events(
    nats, receiver
) -> None:
    await create_stream(nats, retention="limits")
    text = config_text(
        nats.url,
        events=[{"name": "counts"}, {"name": "other"}],
        actors=[ACTOR, {"name": "act", "event": "other", "url": receiver.url}],
    )
    async with running(text, ready=False) as sidecar:
        await until(lambda: _says(sidecar, "event counts", "an event's is 'interest'"))
        assert (await sidecar.readiness())[0] == 503
        await until(lambda: _consumer_is_there(nats))
        await sidecar.emit("other", "7")
        await receiver.wait_for(1)
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("counts")
        await until(sidecar.is_ready, timeout_s=20)


async def _says(sidecar: Sidecar, part: str, words: str) -> bool:
    return words in (await sidecar.readiness())[1].get(part, "")


async def _consumer_is_there(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        return bool(await jetstream.consumers_info("other"))


async def test_two_events_that_map_to_one_stream_are_refused(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "a.b"}])) as sidecar:
        answer = await register(sidecar, events_pb2.Event(name="a-b"))
    assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "CONFLICT")
    assert "'a-b' and 'a.b' map to one stream, 'a-b'" in answer.message


# ---- what would be lost


FIVE = {"limits": {"messages": 5}}


async def fill(nats: NatsServer, count: int = 10, **config: Any) -> None:
    await create_stream(nats, **config)
    await create_consumer(nats)
    async with nats.jetstream() as jetstream:
        for number in range(count):
            await jetstream.publish("counts", b"%d" % number)


@pytest.mark.parametrize(
    ("before", "event", "key", "words"),
    [
        ({}, events_pb2.Event(limits={"messages": 5}), "limits.messages", "it would discard 5 stored messages"),
        ({}, events_pb2.Event(limits={"bytes": 100}), "limits.bytes", "bytes of stored messages"),
        ({}, events_pb2.Event(limits={"age": {"seconds": 3600}}), "limits.age", "stored messages as they get older than that"),
        ({"storage": "file"}, events_pb2.Event(storage="memory"), "storage", "NATS can't change the storage of a stream"),
        ({}, events_pb2.Event(limits={"consumers": 3}), "limits.consumers", "NATS can't change this limit of a stream"),
    ],
)  # fmt: skip
async def test_what_would_discard_messages_or_can_not_be_is_not_written_but_drift(
    nats, before, event, key, words
) -> None:
    await fill(nats, **before)
    event = events_pb2.Event(name="counts", **{field.name: value for field, value in event.ListFields()})
    config = (await request(nats, "STREAM.INFO.counts"))["config"]
    async with running(config_text(nats.url)) as sidecar:
        [outcome] = await register(sidecar, event)
        metrics = await sidecar.metrics()
    [difference] = outcome.drift
    assert difference.startswith(f"{key}: ")
    assert words in difference
    assert metrics['walnatsd_drift{actor="",event="counts",kind="event"}'] == 1
    after = (await request(nats, "STREAM.INFO.counts"))["config"]
    assert {name: after[name] for name in ("max_msgs", "max_bytes", "max_age", "max_consumers", "storage")} == {
        name: config[name] for name in ("max_msgs", "max_bytes", "max_age", "max_consumers", "storage")
    }
    assert len(await stored(nats)) == 10


async def test_limits_that_discard_nothing_are_written(nats) -> None:
    await fill(nats)
    async with running(config_text(nats.url)) as sidecar:
        event = events_pb2.Event(name="counts", limits={"messages": 10, "bytes": 1 << 20})
        [outcome] = await register(sidecar, event)
    assert (sorted(outcome.updated), list(outcome.drift)) == (["limits.bytes", "limits.messages"], [])
    assert len(await stored(nats)) == 10


async def test_dropping_the_oldest_is_not_switched_on_over_a_stream_beyond_its_limit(nats) -> None:
    await fill(nats, discard="new")
    await request(nats, "STREAM.UPDATE.counts", STREAM | {"discard": "new", "max_msgs": 5})
    async with running(config_text(nats.url)) as sidecar:
        [outcome] = await register(sidecar, events_pb2.Event(name="counts", limits={"when_full": "drop_oldest"}))
    assert "it would discard stored messages beyond the limits" in outcome.drift[0]
    assert len(await stored(nats)) == 10


async def test_an_age_below_the_duplicate_window_shortens_the_window_too(nats) -> None:
    await create_stream(nats)
    async with running(config_text(nats.url)) as sidecar:
        [outcome] = await register(sidecar, events_pb2.Event(name="counts", limits={"age": {"seconds": 60}}))
    assert list(outcome.updated) == ["limits.age", "duplicate_window"]
    config = (await request(nats, "STREAM.INFO.counts"))["config"]
    assert config["duplicate_window"] == config["max_age"] == 60 * 10**9


# ---- nats.manage


async def test_without_permission_to_create_a_missing_stream_is_a_conflict_and_nothing_is_created(nats) -> None:
    manage = {"servers": [nats.url], "manage": {"create": False}}
    async with running(config_text(nats.url, nats=manage)) as sidecar:
        answer = await register(sidecar, COUNTS)
        assert (answer.reason, answer.message) == (
            "CONFLICT", "the stream 'counts' is missing, and nats.manage.create is false",
        )  # fmt: skip
        await create_stream(nats)
        [outcome] = await register(sidecar, COUNTS)
        assert not outcome.created
        answer = await register(sidecar, COUNTS, actors=(PROTO_ACTOR,))
        assert "the consumer 'act' of the stream 'counts' is missing" in answer.message


async def test_without_permission_to_update_differences_are_drift(nats) -> None:
    await create_stream(nats)
    await create_consumer(nats, max_deliver=3)
    manage = {"servers": [nats.url], "manage": {"update": False}}
    async with running(config_text(nats.url, nats=manage)) as sidecar:
        event, actor = await register(
            sidecar, events_pb2.Event(name="counts", description="mine"), actors=(PROTO_ACTOR,)
        )
    assert (list(event.updated), list(event.drift)) == ([], ["description: differs, and nats.manage.update is false"])
    assert (list(actor.updated), list(actor.drift)) == ([], ["retry: differs, and nats.manage.update is false"])
    assert "description" not in (await request(nats, "STREAM.INFO.counts"))["config"]


# ---- file and gRPC


async def test_what_the_file_declares_wins_over_a_registration(nats) -> None:
    text = config_text(nats.url, events=[{"name": "counts", "description": "file"}], actors=[ACTOR | {"ack_wait": 5}])
    async with running(text) as sidecar:
        event, actor = await register(
            sidecar,
            events_pb2.Event(name="counts", description="grpc"),
            actors=(actors_pb2.Actor(**ACTOR, max_ack_pending=3),),
        )
    assert list(event.drift) == ["the config file declares this event; the registration changed nothing"]
    assert list(actor.drift) == ["the config file declares this actor; the registration changed nothing"]
    assert (await request(nats, "STREAM.INFO.counts"))["config"]["description"] == "file"
    assert (await request(nats, "CONSUMER.INFO.counts.act"))["config"]["max_ack_pending"] == 1000


async def test_an_actor_of_the_file_wins_even_before_it_is_registered(nats) -> None:
    await create_stream(nats, retention="limits")
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=[ACTOR]), ready=False) as sidecar:
        [actor] = await register(sidecar, actors=(actors_pb2.Actor(**ACTOR, max_ack_pending=3),))
    assert list(actor.drift) == ["the config file declares this actor; the registration changed nothing"]


async def test_an_actor_of_an_event_that_nobody_declared_is_refused(nats) -> None:
    async with running(config_text(nats.url)) as sidecar:
        answer = await register(sidecar, actors=(PROTO_ACTOR,))
    assert (answer.code, answer.reason) == ("NOT_FOUND", "UNKNOWN_EVENT")


BAD_ACTORS = [
    (actors_pb2.Actor(headers={"Authorization": "{env: TOKEN}"}), "headers.Authorization: secrets are refused in registrations"),
    (actors_pb2.Actor(headers={"X": '{"file": "/etc/passwd"}'}), "headers.X: secrets are refused in registrations"),
    (actors_pb2.Actor(headers={"X": "a\nb"}), "headers.X: holds a control character"),
    (actors_pb2.Actor(headers={"Host": "x"}), "headers.Host: 'Host' is set by walnatsd itself"),
    (actors_pb2.Actor(name="a b"), "name: an actor name is letters, digits, - and _, like send-email; this is 'a b'"),
    (actors_pb2.Actor(url="ftp://x"), "url: write a URL like http://127.0.0.1:8000/send-email; this is 'ftp://x'"),
    (actors_pb2.Actor(pulse=False), "pulse: false needs job_timeout (32s) below ack_wait (16s)"),
    (actors_pb2.Actor(ack_wait={"seconds": -1}), "ack_wait: write a duration as seconds or like 250ms, 30s, 5m, 2h, 7d"),
    (actors_pb2.Actor(retry={"unlimited": True, "max_attempts": 3}), "unlimited and max_attempts exclude each other"),
    (actors_pb2.Actor(start="old"), "start: should be 'retained' or 'new'; this is 'old'"),
]  # fmt: skip


async def test_a_bad_declaration_is_refused_in_the_words_of_the_config_file(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        for fields, words in BAD_ACTORS:
            bad = actors_pb2.Actor(**ACTOR)
            bad.MergeFrom(fields)
            answer = await register(sidecar, actors=(bad,))
            assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "INVALID_DECLARATION")
            assert words in answer.message
        event = await register(sidecar, events_pb2.Event(name="walnatsd-x", limits={"when_full": "never"}, replicas=9))
    assert event.reason == "INVALID_DECLARATION"
    for part in (
        "name: names that begin with walnatsd are reserved",
        "limits.when_full: should be",
        "replicas: should be",
    ):
        assert part in event.message
    async with nats.jetstream() as jetstream:
        assert await jetstream.consumers_info("counts") == []


async def test_a_registration_without_nats_is_unavailable(nats) -> None:
    async with running(config_text(nats.url)) as sidecar:
        await nats.stop()
        await until(lambda: _is_away(sidecar))
        answer = await register(sidecar, COUNTS)
    assert (answer.code, answer.reason, answer.retry_after_s) == ("UNAVAILABLE", "NATS_UNAVAILABLE", 1)


async def _is_away(sidecar: Sidecar) -> bool:
    return not await sidecar.is_ready()
