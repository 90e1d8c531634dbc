"""Limits, retries and priorities beside the walnats library: what each side declares, and what the other makes of it."""

import asyncio
import dataclasses
import time
from typing import Any

import pytest
import walnats
from nats.js.errors import APIError

from support.actors import declare
from support.admin import event_status
from support.daemon import config_text, running
from support.desk import Desk
from support.letters import dead_letters, unsettled
from support.nats_server import NatsServer
from support.receiver import Receiver, answers
from support.receiver import receiver as receiver_beside
from support.waiting import until
from walnatsd.api import watch
from walnatsd.dispatch import handling, slots

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # walnats' clock

TEXTS = walnats.Event("texts", bytes)


def config(nats: NatsServer, receiver: Receiver | None, *, event: dict[str, Any] | None = None, **options: Any) -> str:
    actor = {"name": "print", "event": "texts", "retry": {"delays": [0.05], "jitter": 0}} | options
    actors = [actor | {"url": receiver.url}] if receiver else []
    return config_text(nats.url, events=[{"name": "texts"} | (event or {})], actors=actors)


async def register(nats: NatsServer, event: walnats.Event[Any], *actors: walnats.Actor[Any, Any]) -> None:
    async with walnats.Events(event).connect(nats.url) as walnats_side:
        await walnats_side.register()
    if actors:
        async with walnats.Actors(*actors).connect(nats.url) as walnats_side:
            await walnats_side.register()


async def handle_once(nats: NatsServer, actor: walnats.Actor[Any, Any], *, batch: int = 1) -> None:
    """Let a walnats actor handle what waits for it."""
    async with walnats.Actors(actor).connect(nats.url) as walnats_side:
        await walnats_side.listen(burst=True, batch=batch, poll_delay=10)


async def settled(nats: NatsServer) -> bool:
    return await unsettled(nats, "texts") == 0


# ---- limits


async def test_limits_that_walnats_declared_hold_for_what_walnatsd_emits_and_delivers(nats, receiver) -> None:
    event = dataclasses.replace(TEXTS, limits=walnats.Limits(messages=3, message_size=200))
    await register(nats, event, walnats.Actor("print", event, print))
    async with running(config(nats, None)) as sidecar:
        status, problem = await sidecar.try_emit("texts", "x" * 300)
        assert (status, problem["reason"]) == (413, "TOO_LARGE")
        for number in range(5):
            await sidecar.emit("texts", str(number))
    async with running(config(nats, receiver)):
        await receiver.wait_for(3)
        await until(lambda: settled(nats))
    assert sorted(receiver.bodies) == [b"2", b"3", b"4"]  # the oldest were dropped, as walnats has it


async def test_a_limit_of_consumers_that_walnats_declared_keeps_another_actor_out_in_words(nats, receiver) -> None:
    event = dataclasses.replace(TEXTS, limits=walnats.Limits(consumers=1))
    await register(nats, event, walnats.Actor("theirs", event, print))
    async with running(config(nats, receiver), ready=False) as sidecar:

        async def refused() -> bool:
            _, problems = await sidecar.readiness()
            return "is reached by" in problems.get("actor print of texts", "")

        await until(refused)


async def test_limits_that_walnatsd_declared_hold_for_walnats_on_both_sides(nats) -> None:
    limits = {"messages": 3, "message_size": 200, "when_full": "refuse"}
    handled: list[bytes] = []
    async with running(config(nats, None, event={"limits": limits})):
        async with nats.jetstream() as jetstream:  # walnats' own registration of the event would take the limits away
            await jetstream.add_consumer("texts", durable_name="print", ack_policy="explicit")
        async with walnats.Events(TEXTS).connect(nats.url) as walnats_side:
            with pytest.raises(APIError, match="message size exceeds maximum allowed"):
                await walnats_side.emit(TEXTS, b"x" * 300, sync=True)
            for number in range(3):
                await walnats_side.emit(TEXTS, b"%d" % number, sync=True)
            with pytest.raises(APIError, match="maximum messages exceeded"):
                await walnats_side.emit(TEXTS, b"3", sync=True)
            await handle_once(nats, walnats.Actor("print", TEXTS, handled.append), batch=3)
            await until(lambda: settled(nats))  # walnats does not wait for its acks
            await walnats_side.emit(TEXTS, b"4", sync=True)
    assert handled == [b"0", b"1", b"2"]


async def test_limits_that_walnats_takes_away_are_drift_until_the_next_registration(nats, monkeypatch) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    text = config(nats, None, event={"limits": {"age": "1h", "messages": 10, "when_full": "refuse"}})
    differs = ["limits.age", "limits.messages", "limits.when_full"]
    async with running(text) as sidecar:
        await register(nats, TEXTS)

        async def noticed() -> bool:
            return (await event_status(sidecar, "texts"))["drift"] == differs

        await until(noticed)
        assert (await sidecar.metrics())['walnatsd_drift{actor="",event="texts",kind="event"}'] == 3
    async with running(text) as sidecar:

        async def written() -> bool:
            return (await event_status(sidecar, "texts"))["drift"] == []

        await until(written)
        async with nats.jetstream() as jetstream:
            present = (await jetstream.stream_info("texts")).config
    assert (present.max_age, present.max_msgs, present.discard) == (3600, 10, "new")


async def test_a_limit_that_would_discard_what_came_after_walnats_took_it_away_is_not_written(
    nats, monkeypatch
) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    text = config(nats, None, event={"limits": {"messages": 2}})
    async with running(text):
        await register(nats, TEXTS, walnats.Actor("print", TEXTS, print))
        async with walnats.Events(TEXTS).connect(nats.url) as walnats_side:
            for number in range(5):
                await walnats_side.emit(TEXTS, b"%d" % number, sync=True)
    async with running(text) as sidecar:

        async def says_why() -> bool:
            [differs] = (await event_status(sidecar, "texts"))["drift"] or [""]
            return "would discard 3 stored messages; walnatsd apply --force writes it" in differs

        await until(says_why)
    assert await unsettled(nats, "texts") == 5


# ---- retries


async def test_attempts_of_walnats_count_for_the_actor_that_walnatsd_serves_now(nats, receiver) -> None:
    def fail(_text: bytes) -> None:
        raise ValueError

    receiver.answer = answers(then=500)
    theirs = walnats.Actor("print", TEXTS, fail, retry_delay=())
    await register(nats, TEXTS, theirs)
    async with walnats.Events(TEXTS).connect(nats.url) as walnats_side:
        await walnats_side.emit(TEXTS, b"7", uid="u", sync=True)
    for _ in range(2):
        await handle_once(nats, theirs)
    async with running(config(nats, receiver, retry={"delays": [0.05], "max_attempts": 4})):
        await until(lambda: settled(nats))
    assert [received.attempt for received in receiver.received] == [3, 4]
    [(letter, payload)] = await dead_letters(nats)
    assert payload == b"7"
    assert letter["walnats-dead-letter-attempts"] == "4"
    assert letter["walnats-dead-letter-uid"] == "u"
    assert '"complete":false' in letter["walnats-dead-letter-history"].replace(" ", "")


async def test_what_used_up_the_attempts_of_walnats_is_delivered_after_all(nats, receiver) -> None:
    """There the message stays in the stream for ever, and nobody sees it again."""

    def fail(_text: bytes) -> None:
        raise ValueError

    theirs = walnats.Actor("print", TEXTS, fail, max_attempts=2, retry_delay=())
    await register(nats, TEXTS, theirs)
    async with walnats.Events(TEXTS).connect(nats.url) as walnats_side:
        await walnats_side.emit(TEXTS, b"7", sync=True)
    for _ in range(2):
        await handle_once(nats, theirs)
    async with running(config(nats, receiver)):
        [received] = await receiver.wait_for(1)
        await until(lambda: settled(nats))
    assert received.body == b"7"


async def test_attempts_of_walnatsd_count_for_the_walnats_actor_that_comes_after_it(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    attempts: list[int | None] = []

    class Note(walnats.middlewares.Middleware):
        def on_start(self, ctx: walnats.types.Context) -> None:
            attempts.append(ctx._msg.metadata.num_delivered)

    async with running(config(nats, receiver)) as sidecar:
        await sidecar.emit("texts", "7")
        await receiver.wait_for(2)
    await handle_once(nats, walnats.Actor("print", TEXTS, print, middlewares=(Note(),)))
    assert attempts == [len(receiver.received) + 1]


# ---- delay


async def test_a_delay_of_walnats_holds_for_the_actors_of_both(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr(handling, "PARK_OVER_S", 0.5)  # so ours is parked, theirs handed back
    handled_at: list[float] = []
    theirs = walnats.Actor("theirs", TEXTS, lambda _text: handled_at.append(time.time()), _now=time.time)
    async with running(config(nats, receiver)), walnats.Actors(theirs).connect(nats.url) as walnats_side:
        await walnats_side.register()
        listening = asyncio.create_task(walnats_side.listen(poll_delay=5))
        async with walnats.Events(TEXTS).connect(nats.url) as emitting:
            # its own clock is exact on hosts in UTC only
            emitting = dataclasses.replace(emitting, _now=time.time)  # noqa: PLW2901
            due = time.time() + 1.5
            await emitting.emit(TEXTS, b"7", delay=1.5, sync=True)
        [received] = await receiver.wait_for(1)
        assert time.time() >= due - 0.001
        await until(lambda: handled_at)
        listening.cancel()
        await asyncio.wait([listening])
    assert handled_at[0] >= due - 0.01  # it calls a millisecond nothing
    assert received.attempt == 1


# ---- priorities

TURNS = (
    ("low", walnats.Priority.LOW),
    ("normal", walnats.Priority.NORMAL),
    ("high", walnats.Priority.HIGH),
)


async def test_actors_that_move_from_walnats_keep_who_goes_first(nats, receiver, monkeypatch) -> None:
    """One slot, taken; what waits for it then is started by priority, whoever came first."""
    monkeypatch.setitem(slots.HEAD_START_S, "normal", 60.0)  # however slow the test is
    monkeypatch.setitem(slots.HEAD_START_S, "low", 120.0)
    by_walnats: list[str] = []
    async with nats.jetstream() as jetstream:
        for name in ("busy", *(name for name, _ in TURNS)):
            await declare(jetstream, name, "print")
        await in_walnats(nats, by_walnats)
        assert by_walnats == ["high", "normal", "low"]

        async with receiver_beside() as busy:
            desk = Desk(busy)
            actors = [{"name": "print", "event": "busy", "url": busy.url}]
            actors += [{"name": "print", "event": name, "url": receiver.url, "priority": name} for name, _ in TURNS]
            events = [{"name": actor["event"]} for actor in actors]
            async with running(config_text(nats.url, max_jobs=1, events=events, actors=actors)) as sidecar:
                await jetstream.publish("busy", b"1")
                await until(lambda: len(desk.waiting) == 1)
                for count, (name, _) in enumerate(TURNS, 1):
                    await jetstream.publish(name, b"1")

                    async def so_many_wait(count: int = count) -> bool:
                        return (await sidecar.metrics())["walnatsd_slots_waiting"] == count

                    await until(so_many_wait)
                desk.open()
                await receiver.wait_for(3)
    assert [received.headers["walnats-event"] for received in receiver.received] == by_walnats


async def in_walnats(nats: NatsServer, started: list[str]) -> None:
    """Let four actors of the walnats library share one slot."""
    done = asyncio.Event()

    async def hold(_number: int) -> None:
        await done.wait()

    actors = [walnats.Actor("print", walnats.Event("busy", int), hold)]
    for name, priority in TURNS:
        event = walnats.Event(name, int)
        actors.append(walnats.Actor("print", event, lambda _number, name=name: started.append(name), priority=priority))
    async with walnats.Actors(*actors).connect(nats.url) as walnats_side, nats.jetstream() as jetstream:
        # every actor asks before there is anything, for one that finds the slot taken asks for nothing
        listening = asyncio.create_task(walnats_side.listen(max_jobs=1, poll_delay=30))

        async def all_ask() -> bool:
            infos = [await jetstream.consumer_info(actor.event.name, "print") for actor in actors]
            return all(info.num_waiting for info in infos)

        await until(all_ask)
        for name in ("busy", *(name for name, _ in TURNS)):
            await jetstream.publish(name, b"1")

            async def is_here(name: str = name) -> bool:
                return (await jetstream.consumer_info(name, "print")).num_ack_pending == 1

            await until(is_here)
        done.set()
        await until(lambda: len(started) == 3)
        listening.cancel()
        await asyncio.wait([listening])
