"""The actor-only route beside the event's stream: shared capacity, pauses, what others do to it."""

import asyncio

import pytest
from aiohttp import web
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from support.daemon import config_text, running
from support.nats_server import NatsServer
from support.receiver import Received, Receiver, answers
from support.route import in_stream, is_parked, route_of
from support.waiting import until
from walnatsd.broker.route import consumer_name
from walnatsd.dispatch import handling

ROUTE = consumer_name("counts", "print")


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(handling, "PARK_OVER_S", 0.5)


def config(nats: NatsServer, receiver: Receiver, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [1], "jitter": 0}}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


async def routes(jetstream: JetStreamContext) -> list[ConsumerInfo]:
    """The consumers of actors' routes, beside the one for delayed emits."""
    return [info for info in await jetstream.consumers_info("walnatsd") if info.name.startswith("actor-")]


async def test_an_actor_that_never_parked_has_no_consumer_for_it(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        async with nats.jetstream() as jetstream:
            assert await routes(jetstream) == []


async def test_neither_the_stream_nor_the_route_starves_the_other_where_there_is_one_slot(nats, receiver) -> None:
    parked = [f"late {number}".encode() for number in range(20)]

    async def answer(received: Received) -> web.StreamResponse:
        if received.body in parked and received.attempt == 1:
            return web.Response(status=500)
        await asyncio.sleep(0.01)
        return web.Response()

    receiver.answer = answer
    async with running(config(nats, receiver, max_jobs=1)) as sidecar:
        for body in parked:
            await sidecar.emit("counts", body)
        await until(lambda: is_parked(nats, 20))
        for number in range(300):
            await sidecar.emit("counts", f"now {number}")
        await receiver.wait_for(340)
        await until(lambda: is_parked(nats, 0))
    assert receiver.most_in_progress == 1
    order = ["late" if body in parked else "now" for body in receiver.bodies[20:]]
    assert order.count("late") == 20
    first_late = order.index("late")
    between = order[first_late : len(order) - order[::-1].index("late")]
    assert between.count("now") <= 80  # the route is served while the stream has something, …
    assert order[-1] == "now"  # … and does not take all


async def test_a_pause_holds_what_is_parked_too(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        if received.body == b"pause":
            return web.Response(status=410)
        return web.Response(status=500 if received.attempt == 1 else 200)

    receiver.answer = answer
    async with running(config(nats, receiver)) as sidecar, nats.jetstream() as jetstream:

        async def paused(stream: str, consumer: str) -> bool:
            return bool((await jetstream._api_request(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}")).get("paused"))

        await sidecar.emit("counts", "1")
        await until(lambda: is_parked(nats))
        await sidecar.emit("counts", "pause")
        await until(lambda: paused("walnatsd", ROUTE))
        assert await paused("counts", "print")
        due = await until(lambda: _due(jetstream))
        assert due["num_pending"] == 1
        assert receiver.bodies == [b"1", b"pause"]


async def _due(jetstream) -> dict[str, int]:
    info = await jetstream._api_request(f"$JS.API.CONSUMER.INFO.walnatsd.{ROUTE}")
    return info if info["num_pending"] else {}


async def test_what_is_parked_while_the_actor_is_paused_is_paused_too(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        async with nats.jetstream() as jetstream:
            await jetstream._api_request(
                "$JS.API.CONSUMER.PAUSE.counts.print", b'{"pause_until":"2100-01-01T00:00:00Z"}'
            )
        return web.Response(status=500)

    receiver.answer = answer
    async with running(config(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        await sidecar.emit("counts", "1")
        await until(lambda: is_parked(nats))
        info = await jetstream._api_request(f"$JS.API.CONSUMER.INFO.walnatsd.{ROUTE}")
    assert info["paused"]


async def test_the_consumer_of_a_route_follows_the_actors_ack_wait(nats, receiver) -> None:
    receiver.answer = answers(500)
    for ack_wait in (5, 8):
        async with running(config(nats, receiver, ack_wait=ack_wait)) as sidecar, nats.jetstream() as jetstream:
            await sidecar.emit("counts", "1")

            async def follows(jetstream=jetstream, ack_wait=ack_wait) -> bool:
                [info] = await routes(jetstream) or [None]
                return info is not None and info.config.ack_wait == ack_wait

            await until(follows)


async def test_a_route_whose_consumer_somebody_deleted_is_opened_again(nats, receiver) -> None:
    receiver.answer = answers(500)
    async with running(config(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: is_parked(nats))
        async with nats.jetstream() as jetstream:
            await jetstream.delete_consumer("walnatsd", ROUTE)
        await receiver.wait_for(2)
        await until(lambda: is_parked(nats, 0))


async def test_a_message_that_somebody_puts_on_a_route_by_hand_reaches_the_actor(nats, receiver) -> None:
    receiver.answer = answers(500)
    async with running(config(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(2)
        async with nats.jetstream() as jetstream:
            await jetstream.publish("walnatsd.actor.counts.print", b"mine", headers={"walnatsd-stored-at": "nan"})
        received = await receiver.wait_for(3)
        await until(lambda: is_parked(nats, 0))
    assert received[2].body == b"mine"
    assert received[2].attempt == 1


async def test_removing_a_route_discards_what_waits_for_the_actor_and_nothing_else(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    actors = [
        {"name": name, "event": "counts", "url": receiver.url, "retry": {"delays": [60], "jitter": 0}}
        for name in ("print", "printer")
    ]
    text = config_text(nats.url, events=[{"name": "counts"}], actors=actors)
    async with running(text) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: _holds(nats, 2))
    async with route_of(nats) as route:
        await route.remove("counts", "print")
        assert await in_stream(nats) == 1
        await route.remove("counts", "print")
        await route.remove("counts", "never")
        async with nats.jetstream() as jetstream:
            assert [info.name for info in await routes(jetstream)] == [consumer_name("counts", "printer")]


async def _holds(nats: NatsServer, count: int) -> bool:
    return await in_stream(nats) == count
