"""What the in-memory connection has beside the real one. That it behaves like it is shown in the daemon's tests
(tests/integration/test_client_testing.py), which run against both."""

import ast
import asyncio
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import walnatsd_client as walnatsd
from support.waiting import until
from walnatsd_client import testing
from walnatsd_client._proto import actors_pb2_grpc, events_pb2_grpc


@dataclass(frozen=True)
class Parcel:
    id: int


PARCEL = walnatsd.Event("parcels", Parcel)
COUNT = walnatsd.Event("counts", int)


async def until_emitted(conn: testing.MemoryConnection, event: walnatsd.Event[Any]) -> None:
    await until(lambda: bool(conn.emitted(event)))


async def test_what_was_emitted_is_there_to_look_at_in_its_type() -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    async with testing.connect() as conn:
        assert conn.emitted(PARCEL) == ()
        await conn.register(PARCEL)
        await conn.emit(PARCEL, Parcel(1), uid="one", trace_id="t", headers={"team": "a"})
        await conn.emit(PARCEL, Parcel(2), uid="two", delay=60)
        await conn.emit(PARCEL, Parcel(3), uid="three", deliver_at=moment)
        with pytest.raises(walnatsd.InvalidError):
            await conn.emit(PARCEL, Parcel(4), uid="ü")
        one, two, three = conn.emitted(PARCEL)
    assert one == testing.Emitted(Parcel(1), "one", 1, False, "t", {"team": "a"}, None, None)
    assert (two.message, two.delay, two.deliver_at, two.sequence) == (Parcel(2), 60, None, 0)
    assert (three.message, three.delay, three.deliver_at) == (Parcel(3), None, moment)


async def test_actors_are_served_from_the_beginning_those_with_a_webhook_too() -> None:
    seen: list[tuple[str, int]] = []
    actors = [
        walnatsd.Actor("stream", COUNT, lambda count: seen.append(("stream", count))),
        walnatsd.Actor("hook", COUNT, lambda count: seen.append(("hook", count)), url="http://127.0.0.1:9/"),
    ]
    async with testing.connect(*actors) as conn:
        await conn.register(*actors)  # as the code under test may do
        await conn.emit(COUNT, 7)
        await conn.settle()
        assert sorted(seen) == [("hook", 7), ("stream", 7)]


async def test_settle_waits_for_handlers_and_for_what_they_emit() -> None:
    seen: list[Parcel] = []
    async with testing.connect() as conn:

        async def pack(count: int) -> None:
            await asyncio.sleep(0.05)
            await conn.emit(PARCEL, Parcel(count))

        actors = (walnatsd.Actor("pack", COUNT, pack), walnatsd.Actor("see", PARCEL, seen.append))
        await conn.register(*actors)
        listening = asyncio.create_task(conn.listen(*actors))
        await conn.emit(COUNT, 7)
        await until_emitted(conn, PARCEL)
        await conn.settle()
        assert seen == [Parcel(7)]
        listening.cancel()
        await asyncio.wait((listening,))


async def test_time_passes_when_it_is_told_to_through_all_that_becomes_due() -> None:
    attempts: list[int] = []

    async def fail(_: int) -> None:
        attempts.append(walnatsd.current_delivery().attempt)
        raise RuntimeError

    actor = walnatsd.Actor("fail", COUNT, fail, retry=walnatsd.RetryPolicy(delays=(60, 3600), max_attempts=4))
    started = time.monotonic()
    async with testing.connect(actor) as conn:
        await conn.emit(COUNT, 7, uid="seven", delay=86_400)
        await conn.advance(43_200)
        assert attempts == []
        await conn.advance(43_200)
        assert attempts == [1]
        await conn.advance(60 + 3600 + 3600)
        assert attempts == [1, 2, 3, 4]
        [letter] = conn.dead_letters(actor)
    assert time.monotonic() - started < 3600
    assert (letter.event, letter.actor, letter.uid, letter.attempts) == ("counts", "fail", "seven", 4)
    assert letter.reason == "gave up after 4 attempts; the last one: the handler failed; its log says why"
    assert actor.event.decode(letter.payload) == 7


async def test_a_handler_that_hangs_while_time_passes_is_tried_again() -> None:
    attempts: list[int] = []

    async def hang_once(_: int) -> None:
        attempts.append(walnatsd.current_delivery().attempt)
        if len(attempts) == 1:
            await asyncio.Event().wait()

    actor = walnatsd.Actor("hang", COUNT, hang_once, job_timeout=0.1)
    async with testing.connect(actor) as conn:
        await conn.emit(COUNT, 7, delay=60)
        await conn.advance(120)
        assert attempts == [1, 2]


async def test_a_uid_is_forgotten_after_the_duplicate_window() -> None:
    event = walnatsd.Event("counts", int, duplicate_window=300)
    async with testing.connect() as conn:
        await conn.register(event)
        first = await conn.emit(event, 1, uid="one")
        await conn.advance(299)
        second = await conn.emit(event, 1, uid="one")
        await conn.advance(301)
        third = await conn.emit(event, 1, uid="one")
    assert [receipt.duplicate for receipt in (first, second, third)] == [False, True, False]


async def test_a_request_gives_up_when_its_time_has_passed() -> None:
    asked = walnatsd.Event("words", str).with_response(int)
    async with testing.connect() as conn:
        await conn.register(walnatsd.Actor("nobody", asked, len))
        request = asyncio.create_task(conn.request(asked, "x", timeout=3600))
        await until_emitted(conn, asked)
        await conn.advance(3601)
        with pytest.raises(walnatsd.NoResponseError):
            await request


async def test_messages_that_are_there_together_make_a_batch() -> None:
    batches: list[list[int]] = []

    async def add(counts: list[int]) -> list[walnatsd.Reject | walnatsd.Retry | None]:
        batches.append(counts)
        return [walnatsd.Reject("seven") if count == 7 else None for count in counts]

    actor = walnatsd.BatchActor("add", COUNT, add, batch=walnatsd.Batch(max_size=4))
    async with testing.connect(actor) as conn:
        await asyncio.gather(*(conn.emit(COUNT, number) for number in range(10)))
        await conn.settle()
        letters = conn.dead_letters(actor)
    assert sorted(count for batch in batches for count in batch) == list(range(10))
    assert max(map(len, batches)) > 1
    assert all(len(batch) <= 4 for batch in batches)
    assert [(letter.payload, letter.reason) for letter in letters] == [(b"7", "seven")]


async def test_a_rejected_batch_comes_again_message_by_message() -> None:
    batches: list[list[int]] = []

    async def add(counts: list[int]) -> None:
        batches.append(counts)
        if 7 in counts:
            raise walnatsd.Reject("seven")

    actor = walnatsd.BatchActor("add", COUNT, add)
    async with testing.connect(actor) as conn:
        await asyncio.gather(*(conn.emit(COUNT, number) for number in (5, 6, 7, 8)))
        await conn.settle()
        assert [letter.payload for letter in conn.dead_letters(actor)] == [b"7"]
    alone = [batch[0] for batch in batches if len(batch) == 1]
    assert sorted(alone) == [5, 6, 7, 8]


async def test_an_actor_with_a_filter_is_refused_for_it_would_get_too_much() -> None:
    async with testing.connect() as conn:
        with pytest.raises(walnatsd.UnsupportedError, match="filter"):
            await conn.register(walnatsd.Actor("a", COUNT, print, filter="data > 1"))


async def test_dead_letters_of_an_actor_that_is_not_registered_are_no_empty_list() -> None:
    async with testing.connect() as conn:
        with pytest.raises(walnatsd.UnknownActorError, match="has no actor 'a'"):
            conn.dead_letters(walnatsd.Actor("a", COUNT, print))


async def test_what_fails_within_the_connection_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with testing.connect(walnatsd.Actor("a", COUNT, print)):
            raise ZeroDivisionError


async def test_leaving_it_ends_what_waits_and_leaves_no_task_behind() -> None:
    asked = walnatsd.Event("words", str).with_response(int)
    before = asyncio.all_tasks()
    async with testing.connect() as conn:
        await conn.register(walnatsd.Actor("nobody", asked, len))
        request = asyncio.create_task(conn.request(asked, "x", timeout=3600))
        await until_emitted(conn, asked)
    with pytest.raises(walnatsd.UnavailableError, match="closed"):
        await request
    with pytest.raises(walnatsd.UnavailableError, match="closed"):
        await conn.emit(asked, "y")
    assert asyncio.all_tasks() == before


def test_blocking_code_has_one_too() -> None:
    seen: list[int] = []
    actor = walnatsd.Actor("see", COUNT, seen.append)
    before = threading.active_count()
    with testing.connect_sync(actor) as conn:
        conn.emit(COUNT, 1)
        conn.emit(COUNT, 2, delay=60)
        conn.settle()
        assert seen == [1]
        conn.advance(60)
        assert seen == [1, 2]
        assert [each.message for each in conn.emitted(COUNT)] == [1, 2]
        assert conn.dead_letters(actor) == ()
    assert threading.active_count() == before


def test_it_has_every_method_of_the_contract_that_the_client_uses() -> None:
    """A method that is missing in memory is refused in words, which nobody wants to find out in their tests."""
    from walnatsd_client.testing._actors import Actors
    from walnatsd_client.testing._events import Events

    def methods(servicer: type) -> set[str]:
        return {name for name in vars(servicer) if name[0].isupper()}

    assert methods(Actors) == methods(actors_pb2_grpc.ActorsServicer)
    assert methods(events_pb2_grpc.EventsServicer) - methods(Events) == {
        "EmitStream",
        "ListScheduled",
        "CancelScheduled",
    }


async def test_the_examples_of_the_readme_for_emitters_and_tests_run() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    [emits] = [block for block in blocks if "meta=" in block]
    [tests] = [block for block in blocks if "testing.connect(" in block]
    show = walnatsd.Actor("show", COUNT, print)
    async with testing.connect() as conn:
        await conn.register(COUNT)
        names: dict[str, object] = {
            "walnatsd": walnatsd,
            "asyncio": asyncio,
            "conn": conn,
            "COUNT": COUNT,
            "SHOW": show,
        }
        for block in (emits, tests):
            await eval(compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        assert len(conn.emitted(COUNT)) == 1002


async def test_a_bug_of_the_memory_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    from walnatsd_client.testing._events import Events

    monkeypatch.setattr(Events, "_emit", lambda *_: 1 / 0)
    async with testing.connect() as conn:
        await conn.register(COUNT)
        with pytest.raises(ZeroDivisionError):
            await conn.emit(COUNT, 1)


async def test_an_actor_that_can_not_be_served_is_told_at_the_beginning() -> None:
    actor = walnatsd.Actor("count", COUNT, print)
    async with asyncio.timeout(10):
        with pytest.raises(ValueError, match="different actors"):
            async with testing.connect(actor, actor):
                pass


def test_blocking_code_is_told_of_an_actor_that_is_refused() -> None:
    actor = walnatsd.Actor("count", COUNT, print, filter="data > 1")
    with testing.connect_sync(actor) as conn, pytest.raises(walnatsd.WalnatsdError, match="filter"):
        conn.emit(COUNT, 1)
