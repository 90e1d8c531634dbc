"""The history of attempts that a dead letter carries."""

import asyncio
import datetime as dt
import time

from aiohttp import web

from support.admin import admin
from support.buried import letters
from support.daemon import config_text, process, running
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.route import is_parked
from support.waiting import until
from walnatsd.dispatch import handling


def config(nats: NatsServer, receiver: Receiver, *, delays: list[float], **options: object) -> str:
    retry = {"delays": delays, "jitter": 0, "max_attempts": 3}
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": retry}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


async def history(sidecar) -> dict[str, object]:
    [letter] = await until(lambda: letters(sidecar))
    _, shown = await admin(sidecar, "GET", f"dead-letters/{letter['sequence']}")
    return shown["history"]


async def say_which(received: Received) -> web.StreamResponse:
    return web.Response(status=500, text=f"failed {received.attempt} " + "x" * 3000)


async def test_a_dead_letter_tells_of_every_attempt_with_the_beginning_of_the_answer(nats, receiver) -> None:
    receiver.answer = say_which
    began = time.time()
    async with running(config(nats, receiver, delays=[0.05])) as sidecar:
        await sidecar.emit("counts", "7")
        told = await history(sidecar)
        [letter] = await letters(sidecar)
    assert told["complete"] is True
    attempts = told["attempts"]
    assert [each["attempt"] for each in attempts] == [1, 2, 3]
    assert [each["status"] for each in attempts] == [500] * 3
    assert [each["outcome"] for each in attempts] == ["failed"] * 3
    assert [each["answer"] for each in attempts] == [(f"failed {n} " + "x" * 3000)[:1024] for n in (1, 2, 3)]
    times = [dt.datetime.fromisoformat(each["at"]).timestamp() for each in attempts]
    assert began - 1 < times[0] < times[1] < times[2] < time.time()
    assert all(0 < each["duration_ms"] < 10_000 for each in attempts)
    assert len(letter["reason"]) < 300  # short, for people and logs


async def test_an_attempt_that_nobody_answered_is_told_in_words(nats, receiver) -> None:
    async def hang(received: Received) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang
    async with running(config(nats, receiver, delays=[0.01], job_timeout=0.1)) as sidecar:
        await sidecar.emit("counts", "7")
        told = await history(sidecar)
    assert [each["status"] for each in told["attempts"]] == [None] * 3
    assert {each["reason"] for each in told["attempts"]} == {"no answer within job_timeout (0.1 s)"}


async def test_a_history_that_another_sidecar_began_says_that_it_is_incomplete(nats, receiver, tmp_path) -> None:
    receiver.answer = say_which
    async with process(tmp_path, config(nats, receiver, delays=[1.5])) as first:
        assert first.sidecar is not None
        await first.sidecar.emit("counts", "7")
        await receiver.wait_for(1)
        await first.end()
    async with running(config(nats, receiver, delays=[0.05])) as sidecar:
        told = await history(sidecar)
    assert told["complete"] is False
    assert [each["attempt"] for each in told["attempts"]] == [2, 3]


async def test_a_history_survives_parking_in_the_same_sidecar(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr(handling, "PARK_OVER_S", 0.3)
    receiver.answer = say_which
    async with running(config(nats, receiver, delays=[0.5])) as sidecar:
        await sidecar.emit("counts", "7")
        await until(lambda: is_parked(nats))
        told = await history(sidecar)
    assert told["complete"] is True
    assert [each["attempt"] for each in told["attempts"]] == [1, 2, 3]


async def test_what_another_sidecar_parked_has_an_incomplete_history(nats, receiver, tmp_path) -> None:
    receiver.answer = say_which
    impatient = "from walnatsd.dispatch import handling; handling.PARK_OVER_S = 0.5"
    async with process(tmp_path, config(nats, receiver, delays=[1]), prelude=impatient) as first:
        assert first.sidecar is not None
        await first.sidecar.emit("counts", "7")
        await until(lambda: is_parked(nats))
        await first.end()
    async with running(config(nats, receiver, delays=[0.05])) as sidecar:
        told = await history(sidecar)
    assert told["complete"] is False
    assert [each["attempt"] for each in told["attempts"]] == [2, 3]


async def test_a_replay_begins_a_history_of_its_own(nats, receiver) -> None:
    receiver.answer = say_which
    async with running(config(nats, receiver, delays=[0.05])) as sidecar:
        await sidecar.emit("counts", "7")
        await history(sidecar)
        await admin(sidecar, "POST", "dead-letters/1/replay")
        await receiver.wait_for(6)
        told = await history(sidecar)
    assert told["complete"] is True
    assert [each["attempt"] for each in told["attempts"]] == [1, 2, 3]
