"""The slots of the sidecar go round: by priority, without starving anybody, and no actor slows its neighbours."""

import asyncio

import pytest
from aiohttp import web

from support.actors import Gauges, declare, fill, handed_over, unsettled
from support.daemon import Sidecar, config_text, running
from support.desk import Desk
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.receiver import receiver as receiver_beside
from support.waiting import until
from walnatsd.broker import pull
from walnatsd.dispatch import slots

CROWD = 100_000


def actors(nats: NatsServer, max_jobs: int, **declared: dict[str, object]) -> str:
    """A config of actors `print`, each on an event of its own."""
    return config_text(
        nats.url,
        max_jobs=max_jobs,
        events=[{"name": event} for event in declared],
        actors=[{"name": "print", "event": event, **options} for event, options in declared.items()],
    )


async def waiting(sidecar: Sidecar) -> float:
    return (await sidecar.metrics())["walnatsd_slots_waiting"]


async def settled(jetstream, event: str) -> bool:
    return await unsettled(jetstream, event) == 0


def events_of(receiver: Receiver) -> list[str]:
    return [received.headers["walnats-event"] for received in receiver.received]


async def test_of_those_who_wait_for_a_slot_the_higher_priority_goes_first(nats, receiver, monkeypatch) -> None:
    monkeypatch.setitem(slots.HEAD_START_S, "normal", 60.0)  # however slow the test is
    monkeypatch.setitem(slots.HEAD_START_S, "low", 120.0)
    async with receiver_beside() as busy:
        desk = Desk(busy)
        config = actors(
            nats, 1, busy={"url": busy.url},
            low={"url": receiver.url, "priority": "low"},
            normal={"url": receiver.url},
            high={"url": receiver.url, "priority": "high"},
        )  # fmt: skip
        async with running(config) as sidecar:
            await sidecar.emit("busy", "1")
            await until(lambda: len(desk.waiting) == 1)
            for count, event in enumerate(("low", "normal", "high"), 1):
                await sidecar.emit(event, "1")
                await until(lambda count=count: _so_many_wait(sidecar, count))
            desk.open()
            await receiver.wait_for(3)
    assert events_of(receiver) == ["high", "normal", "low"]


async def _so_many_wait(sidecar: Sidecar, count: int) -> bool:
    return await waiting(sidecar) == count


async def test_a_low_priority_gets_its_turn_though_there_is_always_something_of_high_priority(
    nats, receiver, monkeypatch
) -> None:
    monkeypatch.setitem(slots.HEAD_START_S, "low", 0.5)

    async def take_a_while(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(0.005)
        return web.Response()

    receiver.answer = take_a_while
    config = actors(
        nats, 1, high={"url": receiver.url, "priority": "high"}, low={"url": receiver.url, "priority": "low"}
    )
    async with running(config), nats.jetstream() as jetstream:
        await fill(jetstream, "high", 3000)
        await receiver.wait_for(10)
        await fill(jetstream, "low", 3)
        await until(lambda: settled(jetstream, "low"))
        assert await unsettled(jetstream, "high") > 0
    assert events_of(receiver).count("high") > 10


async def test_an_actor_that_took_the_last_slot_stands_in_line_for_the_next_one(nats, receiver, monkeypatch) -> None:
    """It asked for no more until a job of its own had ended, though other actors left their slots."""
    for name in ("SILENCE_S", "LOOK_INTERVAL_S"):
        monkeypatch.setattr(pull, name, 60.0)
    async with receiver_beside() as other:
        desk, other_desk = Desk(receiver), Desk(other)
        config = actors(nats, 2, counts={"url": receiver.url}, other={"url": other.url})
        async with running(config) as sidecar, nats.jetstream() as jetstream:
            await sidecar.emit("other", "1")
            await until(lambda: len(other_desk.waiting) == 1)
            await fill(jetstream, "counts", 2)
            await until(lambda: len(desk.waiting) == 1)
            other_desk.open()
            await until(lambda: len(desk.waiting) == 2)
            desk.open()
            await until(lambda: settled(jetstream, "counts"))


async def test_while_all_slots_are_taken_the_messages_of_others_are_not_handed_to_and_fro(nats, receiver) -> None:
    events = [f"e{number}" for number in range(5)]
    async with receiver_beside() as busy:
        desk = Desk(busy)
        config = actors(nats, 2, busy={"url": busy.url}, **{event: {"url": receiver.url} for event in events})
        async with running(config) as sidecar, nats.jetstream() as jetstream:
            await fill(jetstream, "busy", 2)
            await until(lambda: len(desk.waiting) == 2)
            for event in events:
                await fill(jetstream, event, 100)
            await until(lambda: _so_many_wait(sidecar, 5))
            await asyncio.sleep(1)  # what must not happen can't be waited for
            for event in events:
                assert await handed_over(jetstream, event) <= 4, "more than what was asked for before the slots ran out"
            desk.open()
            for event in events:
                await until(lambda event=event: settled(jetstream, event))
                assert await handed_over(jetstream, event) <= 100 + 20
    assert receiver.most_in_progress <= 2


async def test_actors_that_compete_for_the_slots_ask_for_their_share_of_them(nats, receiver) -> None:
    """Each asked for all free slots, so half of the messages were handed back and over again."""

    async def take_a_while(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.Response()

    receiver.answer = take_a_while
    events = [f"e{number}" for number in range(10)]
    config = actors(nats, 32, **{event: {"url": receiver.url} for event in events})
    async with running(config), nats.jetstream() as jetstream:
        await asyncio.gather(*(fill(jetstream, event, 100) for event in events))
        for event in events:
            await until(lambda event=event: settled(jetstream, event))
        assert sum([await handed_over(jetstream, event) for event in events]) <= 1150


@pytest.mark.parametrize("how", ["refused", "hanging"])
async def test_a_dead_actor_with_a_hundred_thousand_waiting_messages_leaves_its_neighbour_alone(
    nats, receiver, how
) -> None:
    async with nats.jetstream() as jetstream, receiver_beside() as dead:
        await declare(jetstream, "dead", "print")
        await fill(jetstream, "dead", CROWD)
        Desk(dead)
        if how == "refused":
            await dead.down()
        config = actors(nats, 32, dead={"url": dead.url, "job_timeout": 1}, alive={"url": receiver.url})
        async with running(config) as sidecar:
            await until(lambda: _has_learned(sidecar, how))
            await fill(jetstream, "alive", 2000)
            await receiver.wait_for(2000)
            await until(lambda: settled(jetstream, "alive"))
            assert await unsettled(jetstream, "dead") == CROWD
            assert await handed_over(jetstream, "dead") <= 100
    assert set(events_of(receiver)) == {"alive"}


async def _has_learned(sidecar: Sidecar, how: str) -> bool:
    """Whether the dead actor has been found out, so that the neighbour is seen beside it."""
    gauges = Gauges(sidecar, "dead")
    return await gauges.window() == 1 if how == "hanging" else await gauges.breaker_is_open()
