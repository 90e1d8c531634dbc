"""What `order_by` does to the consumer, and what becomes of it when it is taken away or when others interfere."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from support.daemon import config_text, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.order import emit_all, interleaved, recorder
from support.waiting import until
from walnatsd.v1 import actors_pb2, actors_pb2_grpc, events_pb2, events_pb2_grpc

PINNED = {"priority_groups": ["order"], "priority_policy": "pinned_client"}


@pytest.fixture(params=["newest", "2.11.11"])
async def pinning_nats(request, tmp_path) -> AsyncIterator[NatsServer]:
    binary = None if request.param == "newest" else binary_of(request.param)
    async with nats_server(tmp_path / "nats", binary=binary) as server:
        yield server


@pytest.fixture
async def old_nats(tmp_path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path / "nats", binary=binary_of("2.10.26")) as server:
        yield server


def config(nats: NatsServer, url: str, manage: dict[str, bool] | None = None, **options: object) -> str:
    actor = {"name": "ship", "event": "parcels", "url": url}
    return config_text(nats.url, events=[{"name": "parcels"}], actors=[actor | options], nats={"manage": manage or {}})


async def consumer(nats: NatsServer) -> dict[str, Any]:
    async with nats.jetstream() as jetstream:
        info = await jetstream._api_request("$JS.API.CONSUMER.INFO.parcels.ship", b"")
    return {
        name: value
        for name, value in info["config"].items()
        if name.startswith("priority") or name in ("metadata", "max_ack_pending")
    }


def own_metadata(config: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in (config.get("metadata") or {}).items() if not name.startswith("_nats")}


async def register(text: str) -> None:
    async with running(text):
        pass


async def test_order_by_pins_the_consumer_and_taking_it_away_sets_it_free(pinning_nats, receiver) -> None:
    await register(config(pinning_nats, receiver.url))
    assert "priority_policy" not in await consumer(pinning_nats)
    await register(config(pinning_nats, receiver.url, order_by="/key", ack_wait=5))
    found = await consumer(pinning_nats)
    assert found | PINNED == found
    assert found["priority_timeout"] == 5_000_000_000
    assert found["max_ack_pending"] == 1000
    await register(config(pinning_nats, receiver.url, order_by="/key", ack_wait=600))
    assert (await consumer(pinning_nats))["priority_timeout"] == 30_000_000_000
    await register(config(pinning_nats, receiver.url, ack_wait=600))
    found = await consumer(pinning_nats)
    assert not any(name.startswith("priority") for name in found)
    assert own_metadata(found) == {}


async def test_a_new_consumer_of_an_ordered_actor_is_pinned(pinning_nats, receiver) -> None:
    await register(config(pinning_nats, receiver.url, order_by="/key"))
    found = await consumer(pinning_nats)
    assert found | PINNED == found
    assert found["priority_timeout"] == 16_000_000_000


async def test_an_older_server_gets_max_ack_pending_1_and_the_limit_back_afterwards(old_nats, receiver) -> None:
    await register(config(old_nats, receiver.url, order_by="/key", max_ack_pending=50))
    found = await consumer(old_nats)
    assert found["max_ack_pending"] == 1
    assert own_metadata(found) == {"walnatsd.order": "one at a time"}
    await register(config(old_nats, receiver.url, order_by="/key"))
    assert (await consumer(old_nats))["max_ack_pending"] == 1
    await register(config(old_nats, receiver.url))
    found = await consumer(old_nats)
    assert found["max_ack_pending"] == 1000
    assert own_metadata(found) == {}


async def test_a_server_that_was_renewed_changes_from_one_at_a_time_to_pinned(tmp_path, receiver) -> None:
    async with nats_server(tmp_path / "nats", binary=binary_of("2.10.26")) as old:
        await register(config(old, receiver.url, order_by="/key"))
        await old.stop()
        async with nats_server(tmp_path / "nats") as renewed:
            await register(config(renewed, receiver.url, order_by="/key"))
            found = await consumer(renewed)
    assert found | PINNED == found
    assert found["max_ack_pending"] == 1000
    assert own_metadata(found) == {}


async def test_order_that_may_not_be_set_up_is_a_conflict_and_nothing_is_delivered(nats, receiver) -> None:
    await register(config(nats, receiver.url))
    text = config(nats, receiver.url, {"update": False}, order_by="/key")
    async with running(text, ready=False) as sidecar:

        async def problem() -> str:
            return (await sidecar.readiness())[1].get("actor ship of parcels", "")

        await until(lambda: _says(problem, "can't keep the order"))
        assert "nats.manage.update is false" in await problem()
        await emit_all(nats, "parcels", interleaved(1, 3))
    assert receiver.received == []


async def _says(problem, text: str) -> bool:
    return text in await problem()


async def test_somebody_who_takes_the_group_away_while_running_is_noticed_and_it_comes_back(pinning_nats) -> None:
    nats = pinning_nats

    async def take_away() -> None:
        """As the walnats library does when it registers the actor: what it does not know goes back to defaults."""
        plain = {"durable_name": "ship", "name": "ship", "ack_policy": "explicit", "deliver_policy": "all"}
        body = {"stream_name": "parcels", "action": "update", "config": plain | {"replay_policy": "instant"}}
        async with nats.jetstream() as jetstream:
            await jetstream._api_request("$JS.API.CONSUMER.CREATE.parcels.ship", json.dumps(body).encode())

    async with recorder() as record, running(config(nats, record.url, order_by="/key", ack_wait=2)):
        await emit_all(nats, "parcels", [(f"k{key}", 0) for key in range(4)])
        await until(lambda: len(record.done()) == 4)
        await take_away()
        await emit_all(nats, "parcels", [(f"k{key}", number) for number in range(1, 10) for key in range(4)])
        await until(lambda: len(record.done()) == 40)
        assert (await consumer(nats))["priority_policy"] == "pinned_client"
    record.check()


async def test_an_ordered_actor_can_be_registered_over_grpc(nats) -> None:
    async with recorder() as record, running(config_text(nats.url)) as sidecar:
        async with grpc.aio.insecure_channel(sidecar.grpc) as channel:
            events = events_pb2_grpc.EventsStub(channel)
            await events.Register(events_pb2.RegisterEventsRequest(events=[events_pb2.Event(name="parcels")]))
            actors = actors_pb2_grpc.ActorsStub(channel)
            for order_by in (actors_pb2.OrderBy(header="ce-subject"), actors_pb2.OrderBy(pointer="/key")):
                actor = actors_pb2.Actor(name="ship", event="parcels", url=record.url, order_by=order_by)
                await actors.Register(actors_pb2.RegisterActorsRequest(actors=[actor]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                actor = actors_pb2.Actor(
                    name="ship", event="parcels", url=record.url, order_by=actors_pb2.OrderBy(pointer="key")
                )
                await actors.Register(actors_pb2.RegisterActorsRequest(actors=[actor]))
            assert "order_by is a JSON pointer" in (caught.value.details() or "")
        found = await consumer(nats)
        assert found | PINNED == found
        await emit_all(nats, "parcels", interleaved(3, 10))
        await until(lambda: len(record.done()) == 30)
    record.check()
