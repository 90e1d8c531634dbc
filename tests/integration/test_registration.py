"""Registering: create what is missing, write declared keys only, adopt what walnats made, discard nothing."""

import json
from typing import Any

import pytest

from support.daemon import Sidecar, config_text, running
from support.grpc_calls import stubs
from support.nats_server import NatsServer
from support.waiting import until
from walnatsd.v1 import actors_pb2, events_pb2

ACTOR = {"name": "act", "event": "counts", "url": "http://127.0.0.1:1/"}


async def stream_config(nats: NatsServer, stream: str = "counts") -> dict[str, Any]:
    """The raw config, with what the library does not know."""
    async with nats.jetstream() as jetstream:
        return (await jetstream._api_request(f"$JS.API.STREAM.INFO.{stream}", b""))["config"]


async def consumer_config(nats: NatsServer, consumer: str = "act", stream: str = "counts") -> dict[str, Any]:
    async with nats.jetstream() as jetstream:
        return (await jetstream._api_request(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", b""))["config"]


async def request(nats: NatsServer, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    async with nats.jetstream() as jetstream:
        return await jetstream._api_request(f"$JS.API.{subject}", json.dumps(body).encode())


async def drift(sidecar: Sidecar, kind: str, actor: str = "") -> float:
    return (await sidecar.metrics())[f'walnatsd_drift{{actor="{actor}",event="counts",kind="{kind}"}}']


FULL_EVENT: dict[str, Any] = {
    "name": "counts", "description": "Numbers.", "duplicate_window": 30, "storage": "memory", "replicas": 1,
    "limits": {"age": 3600, "consumers": 5, "messages": 1000, "bytes": 1 << 20, "message_size": 4096, "when_full": "refuse"},
}  # fmt: skip
FULL_ACTOR: dict[str, Any] = ACTOR | {"description": "Prints.", "ack_wait": 3, "max_ack_pending": 7, "start": "new"}


async def register_over_grpc(sidecar: Sidecar, event: dict[str, Any], actor: dict[str, Any] | None) -> Any:
    """Register what the config file would declare, over gRPC; give both outcomes."""
    from google.protobuf.json_format import ParseDict

    def in_proto(data: dict[str, Any]) -> dict[str, Any]:
        durations = {"age", "duplicate_window", "ack_wait", "job_timeout"}
        return {
            key: in_proto(value) if isinstance(value, dict) else f"{value}s" if key in durations else value
            for key, value in data.items()
        }

    async with stubs(sidecar.grpc) as calls:
        events = events_pb2.RegisterEventsRequest(events=[ParseDict(in_proto(event), events_pb2.Event())])
        [registered] = (await calls.events.Register(events)).events
        if actor is None:
            return registered
        actors = actors_pb2.RegisterActorsRequest(actors=[ParseDict(in_proto(actor), actors_pb2.Actor())])
        return registered, (await calls.actors.Register(actors)).actors[0]


@pytest.mark.parametrize("way", ["file", "grpc"])
async def test_every_declared_key_is_written_when_stream_and_consumer_are_created(nats, way) -> None:
    if way == "file":
        async with running(config_text(nats.url, events=[FULL_EVENT], actors=[FULL_ACTOR])):
            pass
    else:
        async with running(config_text(nats.url)) as sidecar:
            event, actor = await register_over_grpc(sidecar, FULL_EVENT, FULL_ACTOR)
        assert (event.name, event.stream, event.created, list(event.updated), list(event.drift)) == (
            "counts", "counts", True, [], [],
        )  # fmt: skip
        assert (actor.name, actor.event, actor.created, list(actor.updated), list(actor.drift)) == (
            "act", "counts", True, [], [],
        )  # fmt: skip
    stream = await stream_config(nats)
    assert stream | {
        "name": "counts", "subjects": ["counts"], "retention": "interest", "description": "Numbers.", "max_age": 3600 * 10**9,
        "max_consumers": 5, "max_msgs": 1000, "max_bytes": 1 << 20, "max_msg_size": 4096, "discard": "new",
        "duplicate_window": 30 * 10**9, "storage": "memory", "num_replicas": 1,
    } == stream  # fmt: skip
    consumer = await consumer_config(nats)
    assert consumer | {
        "durable_name": "act", "description": "Prints.", "ack_policy": "explicit", "deliver_policy": "new",
        "ack_wait": 3 * 10**9, "max_ack_pending": 7, "max_deliver": -1,
    } == consumer  # fmt: skip
    assert "deliver_subject" not in consumer


async def test_an_event_with_dots_gets_a_stream_with_dashes(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "a.b.c"}])):
        pass
    assert (await stream_config(nats, "a-b-c"))["subjects"] == ["a.b.c"]


@pytest.mark.parametrize("way", ["file", "grpc"])
async def test_an_identical_registration_changes_nothing(nats, way) -> None:
    async with running(config_text(nats.url, events=[FULL_EVENT], actors=[FULL_ACTOR])):
        before = await stream_config(nats), await consumer_config(nats)
    async with nats.jetstream() as jetstream:
        advisories: list[str] = []

        async def hear(message: Any) -> None:
            advisories.append(message.subject)

        await jetstream._nc.subscribe("$JS.EVENT.ADVISORY.STREAM.UPDATED.>", cb=hear)
        await jetstream._nc.subscribe("$JS.EVENT.ADVISORY.CONSUMER.*.>", cb=hear)
        await jetstream._nc.flush()
        if way == "file":
            async with running(config_text(nats.url, events=[FULL_EVENT], actors=[FULL_ACTOR])) as sidecar:
                assert await drift(sidecar, "event") == await drift(sidecar, "actor", "act") == 0
        else:
            async with running(config_text(nats.url)) as sidecar:
                event, actor = await register_over_grpc(sidecar, FULL_EVENT, FULL_ACTOR)
                again, actor_again = await register_over_grpc(sidecar, FULL_EVENT, FULL_ACTOR)
            for outcome in (event, actor, again, actor_again):
                assert (outcome.created, list(outcome.updated), list(outcome.drift)) == (False, [], [])
        await jetstream._nc.flush()
        assert advisories == []
    assert (await stream_config(nats), await consumer_config(nats)) == before


async def test_only_declared_keys_are_written_and_all_others_survive(nats) -> None:
    foreign_stream = {
        "name": "counts", "subjects": ["counts"], "retention": "interest", "max_msgs": 500, "max_age": 10**13,
        "duplicate_window": 7 * 10**9, "discard": "new", "metadata": {"team": "logistics"}, "compression": "s2",
        "allow_direct": True, "description": "theirs", "max_msgs_per_subject": 400,
    }  # fmt: skip
    foreign_consumer = {
        "durable_name": "act", "name": "act", "ack_policy": "explicit", "ack_wait": 99 * 10**9, "max_waiting": 17,
        "metadata": {"team": "logistics"}, "priority_groups": ["g"], "priority_policy": "overflow", "max_batch": 40,
        "description": "theirs", "inactive_threshold": 10**15,
    }  # fmt: skip
    await request(nats, "STREAM.CREATE.counts", foreign_stream)
    where = "CONSUMER.CREATE.counts.act"
    await request(nats, where, {"stream_name": "counts", "action": "create", "config": foreign_consumer})
    async with running(config_text(nats.url)) as sidecar:
        event, actor = await register_over_grpc(
            sidecar, {"name": "counts", "limits": {"messages": 600}}, ACTOR | {"max_ack_pending": 7}
        )
    assert (event.created, list(event.updated), list(event.drift)) == (False, ["limits.messages"], [])
    assert (actor.created, list(actor.updated), list(actor.drift)) == (False, ["max_ack_pending"], [])
    stream = await stream_config(nats)
    stream["metadata"] = {key: value for key, value in stream["metadata"].items() if not key.startswith("_nats.")}
    assert stream | foreign_stream | {"max_msgs": 600} == stream
    consumer = await consumer_config(nats)
    consumer["metadata"] = {key: value for key, value in consumer["metadata"].items() if not key.startswith("_nats.")}
    assert consumer | foreign_consumer | {"max_ack_pending": 7} == consumer


async def test_what_the_walnats_library_made_is_adopted_with_unlimited_deliveries(nats, receiver) -> None:
    import walnats

    event = walnats.Event("counts", schema=int, description="From walnats.", limits=walnats.Limits(messages=50))
    actor = walnats.Actor("act", event, print, max_attempts=3, ack_wait=5)
    async with walnats.Events(event).connect([nats.url]) as events:
        await events.register()
    async with walnats.Actors(actor).connect([nats.url]) as actors:
        await actors.register()
    assert (await consumer_config(nats))["max_deliver"] == 3
    before = await stream_config(nats)
    async with running(
        config_text(nats.url, events=[{"name": "counts"}], actors=[ACTOR | {"url": receiver.url}])
    ) as sidecar:
        assert await drift(sidecar, "event") == await drift(sidecar, "actor", "act") == 0
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)
    assert await stream_config(nats) == before
    consumer = await consumer_config(nats)
    assert consumer["max_deliver"] == -1
    assert consumer["ack_wait"] == 5 * 10**9


async def test_a_backoff_of_the_server_and_a_consumer_without_payloads_are_taken_over_too(nats) -> None:
    await request(nats, "STREAM.CREATE.counts", {"name": "counts", "subjects": ["counts"], "retention": "interest"})
    consumer = {
        "durable_name": "act", "name": "act", "ack_policy": "explicit", "max_deliver": 4, "backoff": [10**9, 3 * 10**9],
        "headers_only": True,
    }  # fmt: skip
    where = "CONSUMER.CREATE.counts.act"
    await request(nats, where, {"stream_name": "counts", "action": "create", "config": consumer})
    async with running(config_text(nats.url)) as sidecar:
        _, actor = await register_over_grpc(sidecar, {"name": "counts"}, ACTOR)
    assert list(actor.updated) == ["retry", "payload"]
    config = await consumer_config(nats)
    assert config["max_deliver"] == -1
    assert "backoff" not in config
    assert not config.get("headers_only")


# ---- start


async def test_an_actor_sees_what_others_have_not_acknowledged_or_only_what_comes_after_it(nats, receiver) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.add_consumer("counts", durable_name="other")
        await sidecar.emit("counts", "before")
        for name, start in (("retained", "retained"), ("new", "new")):
            url = receiver.url + f"-{name}"
            await register_over_grpc(
                sidecar, {"name": "counts"}, {"name": name, "event": "counts", "url": url, "start": start}
            )
        await sidecar.emit("counts", "after")
        await receiver.wait_for(3)
    assert sorted((received.path, received.body) for received in receiver.received) == [
        ("/hook-new", b"after"), ("/hook-retained", b"after"), ("/hook-retained", b"before"),
    ]  # fmt: skip


async def test_another_start_than_at_creation_is_drift(nats) -> None:
    async with running(config_text(nats.url)) as sidecar:
        await register_over_grpc(sidecar, {"name": "counts"}, ACTOR)
    async with running(config_text(nats.url)) as sidecar:
        _, actor = await register_over_grpc(sidecar, {"name": "counts"}, ACTOR | {"start": "new"})
        assert await drift(sidecar, "actor", "act") == 1
    assert "fixed at creation" in actor.drift[0]
    assert (await consumer_config(nats))["deliver_policy"] == "all"


# ---- several sidecars


async def test_two_sidecars_that_register_at_once_do_not_hinder_each_other(nats) -> None:
    events = [FULL_EVENT, *({"name": f"e{n}"} for n in range(10))]
    actors = [FULL_ACTOR, *({"name": "a", "event": f"e{n}", "url": "http://127.0.0.1:1/"} for n in range(10))]
    text = config_text(nats.url, events=events, actors=actors)
    async with running(text, ready=False) as one, running(text, ready=False) as two:
        await until(one.is_ready)
        await until(two.is_ready)
    assert (await consumer_config(nats))["max_ack_pending"] == 7


async def test_two_sidecars_that_declare_differently_at_once_both_become_ready(nats) -> None:
    parts = [
        config_text(nats.url, events=[{"name": "counts", "description": d}], actors=[ACTOR | {"ack_wait": w}])
        for d, w in (("one", 1), ("two", 2))
    ]
    async with running(parts[0], ready=False) as one, running(parts[1], ready=False) as two:
        await until(one.is_ready)
        await until(two.is_ready)
    assert (await stream_config(nats))["description"] in ("one", "two")
