"""The Python client's `listen` against the real daemon."""

import asyncio
import threading
import time

import pytest

import walnatsd_client as walnatsd
from support.daemon import config_text, running
from support.nats_server import NatsServer
from support.waiting import until

COUNT = walnatsd.Event("counts", int)
WORD = walnatsd.Event("words", str)


async def is_settled(nats: NatsServer, stream: str, *consumers: str) -> bool:
    async with nats.jetstream() as jetstream:
        infos = [await jetstream.consumer_info(stream, name) for name in consumers]
    return all((info.num_ack_pending or 0) + (info.num_pending or 0) == 0 for info in infos)


async def end(listening: "asyncio.Task[object]") -> None:
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


async def test_handlers_acknowledge_retry_and_reject_as_they_do_behind_a_webhook(nats) -> None:
    seen: list[tuple[int, int, float]] = []

    async def handle(count: int) -> None:
        seen.append((count, walnatsd.current_delivery().attempt, time.monotonic()))
        if walnatsd.current_delivery().attempt == 1:
            match count:
                case 2:
                    raise walnatsd.Retry(after=0.5)
                case 3:
                    raise ZeroDivisionError
                case 4:
                    await asyncio.Event().wait()  # until job_timeout
        if count == 5:
            raise walnatsd.Reject("five is right out")

    actor = walnatsd.Actor("print", COUNT, handle, job_timeout=2, retry=walnatsd.RetryPolicy(delays=(0.05,)))
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(actor)
        listening = asyncio.create_task(conn.listen(actor))
        for count in range(1, 6):
            await conn.emit(COUNT, count)
        await conn.emit(walnatsd.Event("counts", str), "six")
        await until(lambda: is_settled(nats, "counts", "print"))
        await end(listening)
        async with nats.jetstream() as jetstream:
            letters = [await jetstream.get_msg("walnatsd-dead-letters", number) for number in (1, 2)]
    assert sorted(each[:2] for each in seen) == [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2), (5, 1)]
    first, second = [at for count, _, at in seen if count == 2]
    assert second - first > 0.49
    reasons = sorted((letter.headers or {})["walnats-dead-letter-reason"] for letter in letters)
    assert reasons[0] == "five is right out"
    assert reasons[1].startswith("the payload is not of the event's schema")


async def test_several_actors_are_served_at_once_sync_handlers_too(nats) -> None:
    counts: list[int] = []
    words: list[tuple[str, bool]] = []

    async def handle_count(count: int) -> None:
        counts.append(count)

    def handle_word(word: str) -> None:
        words.append((word, threading.current_thread() is threading.main_thread()))

    actors = (walnatsd.Actor("sum", COUNT, handle_count), walnatsd.Actor("join", WORD, handle_word))
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(*actors)
        listening = asyncio.create_task(conn.listen(*actors))
        for number in range(10):
            await conn.emit(COUNT, number)
            await conn.emit(WORD, str(number))
        await until(lambda: is_settled(nats, "counts", "sum"))
        await until(lambda: is_settled(nats, "words", "join"))
        await end(listening)
    assert sorted(counts) == list(range(10))
    assert sorted(words) == [(str(number), False) for number in range(10)]


async def test_what_a_handler_returns_answers_who_asked(nats) -> None:
    async def length(text: str) -> int:
        return len(text)

    actor = walnatsd.Actor("length", WORD.with_response(int), length)
    async with (
        running(config_text(nats.url)) as sidecar,
        walnatsd.connect(sidecar.grpc) as conn,
        nats.jetstream() as jetstream,
    ):
        await conn.register(actor)
        listening = asyncio.create_task(conn.listen(actor))
        answers = await jetstream._nc.subscribe("_INBOX.asked")
        await jetstream.publish("words", b'"seven"', headers={"Walnats-Reply": "_INBOX.asked"})
        answer = await answers.next_msg(timeout=10)
        await end(listening)
    assert (answer.data, (answer.headers or {})["Content-Type"]) == (b"5", "application/json")


async def test_what_runs_when_listening_is_cancelled_is_finished_and_settled(nats) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def handle(_count: int) -> None:
        started.set()
        await finish.wait()

    actor = walnatsd.Actor("print", COUNT, handle)
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(actor)
        listening = asyncio.create_task(conn.listen(actor))
        await conn.emit(COUNT, 1)
        await started.wait()
        listening.cancel()
        await asyncio.sleep(0)
        finish.set()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await until(lambda: is_settled(nats, "counts", "print"))
        metrics = await sidecar.metrics()
    assert metrics['walnatsd_attempts_total{actor="print",event="counts",outcome="acknowledged"}'] == 1


async def test_listening_to_an_actor_with_a_webhook_or_to_none_says_what_is_wrong(nats) -> None:
    hook = walnatsd.Actor("hook", COUNT, print, url="http://127.0.0.1:9/")
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(hook)
        with pytest.raises(walnatsd.ConflictError, match="has a webhook"):
            await conn.listen(hook)
        with pytest.raises(walnatsd.UnknownActorError, match="declare or register it first"):
            await conn.listen(walnatsd.Actor("nobody", COUNT, print))
