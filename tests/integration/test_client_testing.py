"""The client's in-memory connection behaves as the real daemon does: each test runs against both."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

import walnatsd_client as walnatsd
from support.daemon import Sidecar, config_text, running
from support.nats_server import nats_server
from support.waiting import until
from walnatsd_client import testing

COUNT = walnatsd.Event("counts", int)
WORDS = walnatsd.Event("words", str).with_response(int)
QUICK = walnatsd.RetryPolicy(delays=(0.05,), max_attempts=3)


@dataclasses.dataclass(frozen=True)
class Letter:
    payload: bytes
    uid: str
    reason: str
    attempts: int


class World(Protocol):
    """A connection, and what only the two ends of it differ in."""

    conn: walnatsd.Connection

    async def dead_letters(self, actor: walnatsd.Actor[Any]) -> list[Letter]: ...

    async def let_pass(self, seconds: float) -> None:
        """Give what is due after so many seconds the time for it; `until` does the waiting."""


class Real:
    def __init__(self, conn: walnatsd.Connection, sidecar: Sidecar) -> None:
        self.conn = conn
        self._sidecar = sidecar

    async def dead_letters(self, actor: walnatsd.Actor[Any]) -> list[Letter]:
        url = f"http://{self._sidecar.admin}/admin/v1/dead-letters"
        found = []
        async with aiohttp.ClientSession() as session:
            query = {"event": actor.event.name, "actor": actor.name}
            async with session.get(url, params=query) as response:
                items = (await response.json())["items"]
            for item in items:
                async with session.get(f"{url}/{item['sequence']}") as response:
                    found.append(await response.json())
        return [Letter(_payload(each), each["uid"], each["reason"], each["attempts"]) for each in found]

    async def let_pass(self, seconds: float) -> None:
        pass


def _payload(letter: dict[str, Any]) -> bytes:
    payload: str = letter["payload"]  # all payloads here are texts
    return payload.encode()


class Memory:
    def __init__(self, conn: testing.MemoryConnection) -> None:
        self.conn = conn

    async def dead_letters(self, actor: walnatsd.Actor[Any]) -> list[Letter]:
        assert isinstance(self.conn, testing.MemoryConnection)
        letters = self.conn.dead_letters(actor)
        return [Letter(letter.payload, letter.uid, letter.reason, letter.attempts) for letter in letters]

    async def let_pass(self, seconds: float) -> None:
        assert isinstance(self.conn, testing.MemoryConnection)
        await self.conn.advance(seconds)


@pytest.fixture(params=["memory", "daemon"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        async with testing.connect() as memory:
            yield Memory(memory)
        return
    async with (
        nats_server(tmp_path / "nats") as nats,
        running(config_text(nats.url)) as sidecar,
        walnatsd.connect(sidecar.grpc) as conn,
    ):
        yield Real(conn, sidecar)


@contextlib.asynccontextmanager
async def serving(world: World, *actors: walnatsd.Actor[Any]) -> AsyncIterator[None]:
    await world.conn.register(*actors)
    listening = asyncio.create_task(world.conn.listen(*actors))
    try:
        yield
    finally:
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening


class Handler:
    """Notes what it gets, and does what it is told."""

    def __init__(self, *outcomes: BaseException | None) -> None:
        self.seen: list[int] = []
        self.facts: list[walnatsd.Delivery] = []
        self._outcomes = list(outcomes)

    async def __call__(self, count: int) -> None:
        self.seen.append(count)
        self.facts.append(walnatsd.current_delivery())
        if self._outcomes and (outcome := self._outcomes.pop(0)):
            raise outcome


async def refused(emit: Any) -> tuple[type[walnatsd.WalnatsdError], str, bool]:
    with pytest.raises(walnatsd.WalnatsdError) as caught:
        await emit
    return type(caught.value), caught.value.reason, caught.value.maybe_stored


async def test_a_handler_gets_the_message_and_its_facts(world: World) -> None:
    handler = Handler()
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        receipt = await world.conn.emit(COUNT, 7, uid="seven", trace_id="t", headers={"team": "a"})
        await until(lambda: handler.seen == [7])
    assert receipt == walnatsd.Receipt("seven", "counts", 1, duplicate=False, scheduled=False, spooled=False)
    [facts] = handler.facts
    assert (facts.event, facts.actor, facts.uid, facts.sequence, facts.attempt) == ("counts", "print", "seven", 1, 1)
    assert facts.trace_id == "t"
    assert facts.headers == {"team": "a", "content-type": "application/json"}


async def test_the_attributes_of_a_cloudevent_reach_the_handler(world: World) -> None:
    handler = Handler()
    meta = walnatsd.CloudEvent(
        "8", "/ware house", "counts", subject='ü "x" 100%', time=datetime.now(UTC), extensions={"urgent": True}
    )
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        receipt = await world.conn.emit(COUNT, 8, meta=meta)
        again = await world.conn.emit(COUNT, 8, meta=meta)
        await until(lambda: handler.seen == [8])
    assert handler.facts[0].headers == meta.headers() | {"content-type": "application/json"}
    assert (receipt.uid, again.duplicate) == ("/ware%20house 8", True)


async def test_attributes_among_the_headers_are_percent_encoded_once(world: World) -> None:
    handler = Handler()
    headers = {"ce-id": "8 9", "ce-source": "/%C3%BC", "ce-subject": "100% ü", "ce-quoted": '"a \\"b"', "team": "ü"}
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        receipt = await world.conn.emit(COUNT, 8, headers=headers)
        await until(lambda: handler.seen == [8])
    got = handler.facts[0].headers
    assert receipt.uid == "/%C3%BC 8%209"
    assert (got["ce-subject"], got["ce-quoted"], got["team"]) == ("100%25%20%C3%BC", "a%20%22b", "ü")


async def test_every_actor_gets_every_message(world: World) -> None:
    one, two = Handler(), Handler()
    async with serving(world, walnatsd.Actor("one", COUNT, one), walnatsd.Actor("two", COUNT, two)):
        await asyncio.gather(*(world.conn.emit(COUNT, number) for number in range(50)))
        await until(lambda: len(one.seen) == len(two.seen) == 50)
    assert sorted(one.seen) == sorted(two.seen) == list(range(50))


async def test_of_concurrent_emits_the_bad_ones_are_refused_and_the_others_are_stored(world: World) -> None:
    handler = Handler()
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        results = await asyncio.gather(
            *(world.conn.emit(COUNT, n, uid="ü" if n % 10 == 7 else f"uid-{n}") for n in range(40)),
            return_exceptions=True,
        )
        await until(lambda: len(handler.seen) == 36)
    receipts = [result for result in results if isinstance(result, walnatsd.Receipt)]
    errors = [result for result in results if not isinstance(result, walnatsd.Receipt)]
    assert sorted(receipt.sequence for receipt in receipts) == list(range(1, 37))
    assert [type(error) for error in errors] == [walnatsd.InvalidError] * 4


async def test_a_failed_message_is_tried_again_after_the_delays_of_the_policy(world: World) -> None:
    handler = Handler(RuntimeError(), walnatsd.Retry(after=0.3), None)
    actor = walnatsd.Actor("print", COUNT, handler, retry=QUICK)
    async with serving(world, actor):
        await world.conn.emit(COUNT, 7)
        await until(lambda: len(handler.seen) == 1)
        await world.let_pass(0.5)
        await until(lambda: len(handler.seen) == 3)
    assert [facts.attempt for facts in handler.facts] == [1, 2, 3]
    assert await world.dead_letters(actor) == []


async def test_what_is_rejected_is_a_dead_letter_with_its_reason(world: World) -> None:
    handler = Handler(walnatsd.Reject("seven is right out"))
    actor = walnatsd.Actor("print", COUNT, handler)
    async with serving(world, actor):
        await world.conn.emit(COUNT, 7, uid="seven")
        await until(lambda: _is(world.dead_letters(actor), [Letter(b"7", "seven", "seven is right out", 1)]))


async def test_attempts_used_up_are_a_dead_letter(world: World) -> None:
    handler = Handler(*[RuntimeError()] * 3)
    actor = walnatsd.Actor("print", COUNT, handler, retry=QUICK)
    reason = "gave up after 3 attempts; the last one: the handler failed; its log says why"
    async with serving(world, actor):
        await world.conn.emit(COUNT, 7, uid="seven")
        await until(lambda: bool(handler.seen))
        await world.let_pass(1)
        await until(lambda: _is(world.dead_letters(actor), [Letter(b"7", "seven", reason, 3)]))


async def test_a_payload_of_another_schema_is_a_dead_letter_and_not_handled(world: World) -> None:
    handler = Handler()
    actor = walnatsd.Actor("print", COUNT, handler)
    async with serving(world, actor):
        await world.conn.emit(walnatsd.Event("counts", str), "seven", uid="seven")
        reason = "the payload is not of the event's schema: $: expected int, got str"
        await until(lambda: _is(world.dead_letters(actor), [Letter(b'"seven"', "seven", reason, 1)]))
    assert handler.seen == []


async def test_what_is_not_done_within_job_timeout_is_tried_again(world: World) -> None:
    handler = Handler()

    async def hang_first(count: int) -> None:
        await handler(count)
        if len(handler.seen) == 1:
            await asyncio.Event().wait()

    actor = walnatsd.Actor("print", COUNT, hang_first, job_timeout=0.3, ack_wait=1, retry=QUICK)
    async with serving(world, actor):
        await world.conn.emit(COUNT, 7)
        await until(lambda: len(handler.seen) == 1)
        await world.let_pass(0.5)
        await until(lambda: len(handler.seen) >= 2)


async def test_a_uid_is_stored_once(world: World) -> None:
    handler = Handler()
    meta = walnatsd.CloudEvent("8", "/w", "counts")
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        receipts = [await world.conn.emit(COUNT, 7, uid="seven") for _ in range(2)]
        receipts += [await world.conn.emit(COUNT, 8, meta=meta) for _ in range(2)]
        await world.conn.emit(COUNT, 9)
        await until(lambda: len(handler.seen) == 3)
    assert [(each.uid, each.sequence, each.duplicate) for each in receipts] == [
        ("seven", 1, False),
        ("seven", 1, True),
        ("/w 8", 2, False),
        ("/w 8", 2, True),
    ]
    assert sorted(handler.seen) == [7, 8, 9]


async def test_a_delayed_message_comes_when_it_is_due(world: World) -> None:
    handler = Handler()
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        receipt = await world.conn.emit(COUNT, 7, uid="seven", delay=2)
        again = await world.conn.emit(COUNT, 7, uid="seven", delay=2)
        await world.conn.emit(COUNT, 8, deliver_at=datetime.now(UTC) + timedelta(seconds=4))
        await world.conn.emit(COUNT, 9, deliver_at=datetime(2000, 1, 1, tzinfo=UTC))
        await until(lambda: handler.seen[:1] == [9])
        await world.let_pass(2.1)
        await until(lambda: handler.seen[:2] == [9, 7])
        await world.let_pass(2.1)
        await until(lambda: handler.seen == [9, 7, 8])
    assert (receipt.sequence, receipt.scheduled, receipt.duplicate) == (0, True, False)
    assert (again.scheduled, again.duplicate) == (True, True)
    assert handler.facts[1].uid == "seven"


async def test_an_expected_sequence_is_compared_with_the_last_one(world: World) -> None:
    async with serving(world, walnatsd.Actor("print", COUNT, Handler())):
        await world.conn.emit(COUNT, 1, expected_last_sequence=0)
        await world.conn.emit(COUNT, 2, expected_last_sequence=1)
        assert await refused(world.conn.emit(COUNT, 3, expected_last_sequence=1)) == (
            walnatsd.ConflictError,
            "SEQUENCE",
            False,
        )


@pytest.mark.parametrize(
    ("options", "family", "reason"),
    [
        ({"uid": "ü"}, walnatsd.InvalidError, "INVALID_UID"),
        ({"uid": "x" * 257}, walnatsd.InvalidError, "INVALID_UID"),
        ({"headers": {"Walnats-Delay": "1"}}, walnatsd.InvalidError, "INVALID_HEADER"),
        ({"headers": {"authorization": "x"}}, walnatsd.InvalidError, "INVALID_HEADER"),
        ({"delay": 400 * 86_400}, walnatsd.InvalidError, "INVALID_TIME"),
        ({"delay": -1}, walnatsd.InvalidError, "INVALID_TIME"),
        ({"delay": 1, "expected_last_sequence": 0}, walnatsd.InvalidError, "INVALID_REQUEST"),
    ],
)
async def test_bad_options_are_refused(
    world: World, options: dict[str, Any], family: type[walnatsd.WalnatsdError], reason: str
) -> None:
    await world.conn.register(COUNT)
    assert await refused(world.conn.emit(COUNT, 1, **options)) == (family, reason, False)


async def test_an_event_or_an_actor_that_is_not_declared_is_unknown(world: World) -> None:
    assert await refused(world.conn.emit(COUNT, 1)) == (walnatsd.UnknownEventError, "UNKNOWN_EVENT", False)
    await world.conn.register(COUNT)
    listening = world.conn.listen(walnatsd.Actor("nobody", COUNT, print))
    assert await refused(listening) == (walnatsd.UnknownActorError, "UNKNOWN_ACTOR", False)


async def test_an_actor_with_a_webhook_is_not_served_over_the_stream(world: World) -> None:
    actor = walnatsd.Actor("hook", COUNT, print, url="http://127.0.0.1:9/")
    await world.conn.register(actor)
    assert await refused(world.conn.listen(actor)) == (walnatsd.ConflictError, "CONFLICT", False)


async def test_registering_tells_what_was_created_and_what_was_changed(world: World) -> None:
    event = walnatsd.Event("counts", int, description="d", limits=walnatsd.Limits(messages=10))
    actor = walnatsd.Actor("print", event, print, ack_wait=20)
    first = await world.conn.register(actor)
    same = await world.conn.register(actor)
    other = dataclasses.replace(event, description="e", limits=walnatsd.Limits(messages=20, age=3600))
    changed = await world.conn.register(dataclasses.replace(actor, event=other, ack_wait=30))
    assert [each.created for each in first] == [True, True]
    assert [(each.created, each.updated) for each in same] == [(False, ()), (False, ())]
    assert [sorted(each.updated) for each in changed] == [
        ["description", "limits.age", "limits.messages"],
        ["ack_wait"],
    ]


async def test_two_events_of_one_stream_and_bad_names_are_refused(world: World) -> None:
    await world.conn.register(walnatsd.Event("a.b", int))
    assert await refused(world.conn.register(walnatsd.Event("a-b", int))) == (
        walnatsd.ConflictError,
        "CONFLICT",
        False,
    )
    for name in ("a b", "walnatsd-x", "x" * 256):
        family, reason, _ = await refused(world.conn.register(walnatsd.Event(name, int)))
        assert (family, reason) == (walnatsd.InvalidError, "INVALID_DECLARATION")


async def test_what_is_emitted_while_there_is_no_actor_is_not_stored_unless_actors_are_wanted(world: World) -> None:
    await world.conn.register(COUNT)
    await world.conn.emit(COUNT, 1)
    handler = Handler()
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        receipt = await world.conn.emit(COUNT, 2)
        await until(lambda: handler.seen == [2])
    assert receipt.sequence == 2
    wanted = walnatsd.Event("wanted", int, min_actors=1)
    await world.conn.register(wanted)
    assert await refused(world.conn.emit(wanted, 1)) == (walnatsd.ConflictError, "NO_ACTORS", False)


async def test_a_new_actor_sees_what_others_have_not_settled_or_only_what_is_new(world: World) -> None:
    retained, new = Handler(), Handler()
    await world.conn.register(walnatsd.Actor("slow", COUNT, print))
    await world.conn.emit(COUNT, 1)
    actors = (walnatsd.Actor("retained", COUNT, retained), walnatsd.Actor("new", COUNT, new, start="new"))
    async with serving(world, *actors):
        await world.conn.emit(COUNT, 2)
        await until(lambda: sorted(retained.seen) == [1, 2])
        await until(lambda: new.seen == [2])


async def test_a_full_event_refuses_where_it_says_so(world: World) -> None:
    full = walnatsd.Event("full", int, limits=walnatsd.Limits(messages=2, when_full="refuse"))
    await world.conn.register(walnatsd.Actor("slow", full, print))
    await world.conn.emit(full, 1)
    await world.conn.emit(full, 2)
    assert await refused(world.conn.emit(full, 3)) == (walnatsd.CapacityError, "EVENT_FULL", False)


async def test_a_full_event_drops_its_oldest_message_otherwise(world: World) -> None:
    full = walnatsd.Event("full", int, limits=walnatsd.Limits(messages=2))
    handler = Handler()
    actor = walnatsd.Actor("slow", full, handler)
    await world.conn.register(actor)
    for number in range(4):
        await world.conn.emit(full, number)
    async with serving(world, actor):
        await until(lambda: sorted(handler.seen) == [2, 3])


async def test_an_event_has_no_more_actors_than_it_may(world: World) -> None:
    few = walnatsd.Event("few", int, limits=walnatsd.Limits(consumers=1))
    one, two = (walnatsd.Actor(name, few, print) for name in ("one", "two"))
    await world.conn.register(one)
    assert await refused(world.conn.register(two)) == (walnatsd.ConflictError, "CONFLICT", False)
    await world.conn.register(one)


async def test_messages_of_one_key_come_one_at_a_time_and_a_retry_holds_back_its_key_alone(world: World) -> None:
    log: list[tuple[str, int]] = []
    event = walnatsd.Event("moves", dict)

    async def move(message: dict[str, Any]) -> None:
        log.append((message["key"], message["n"]))
        if message == {"key": "a", "n": 1} and len([each for each in log if each == ("a", 1)]) == 1:
            raise RuntimeError

    actor = walnatsd.Actor("move", event, move, order_by="/key", retry=walnatsd.RetryPolicy(delays=(2,)))
    await world.conn.register(actor)
    for n in (1, 2, 3):
        for key in "ab":
            await world.conn.emit(event, {"key": key, "n": n})
    async with serving(world, actor):
        await until(lambda: log.count(("b", 3)) == 1)
        await world.let_pass(3)
        await until(lambda: ("a", 3) in log)
    assert [n for key, n in log if key == "a"] == [1, 1, 2, 3]
    assert [n for key, n in log if key == "b"] == [1, 2, 3]
    assert log.index(("b", 3)) < log.index(("a", 2))


async def test_ticks_that_do_not_match_are_settled_unseen(world: World) -> None:
    tick = walnatsd.Event("minute-passed", datetime)
    seen: list[datetime] = []
    bad: walnatsd.Event[str] = walnatsd.Event("minute-passed", str)
    actor = walnatsd.Actor("half-past", tick, seen.append, match_time=walnatsd.MatchTime(minute=(30,)))
    async with serving(world, actor):
        for minute in (29, 30, 31):
            await world.conn.emit(tick, datetime(2026, 11, 25, 12, minute))  # noqa: DTZ001 - as clocks emit them
        await world.conn.emit(bad, "x")
        await until(lambda: seen == [datetime(2026, 11, 25, 12, 30)])  # noqa: DTZ001
        await until(lambda: _has_one(world.dead_letters(actor)))
    [letter] = await world.dead_letters(actor)
    assert letter.reason.startswith("match_time: ")


async def test_requests_are_answered(world: World) -> None:
    asked: list[str] = []
    go_on = asyncio.Event()

    async def count_words(text: str) -> int:
        asked.append(text)
        if text == "no":
            raise walnatsd.Reject("no words")
        if text == "slow":
            await go_on.wait()
        return len(text.split())

    async with serving(world, walnatsd.Actor("count-words", WORDS, count_words)):
        assert await world.conn.request(WORDS, "some text", uid="one", timeout=10) == 2
        assert await refused(world.conn.request(WORDS, "no")) == (walnatsd.DeadLetterError, "DEAD_LETTER", True)
        assert await refused(world.conn.request(WORDS, "again", uid="one")) == (
            walnatsd.ConflictError,
            "DUPLICATE",
            False,
        )
        assert await refused(world.conn.request(WORDS, "slow", timeout=2)) == (
            walnatsd.NoResponseError,
            "NO_RESPONSE",
            True,
        )
        go_on.set()
    assert asked == ["some text", "no", "slow"]


async def test_a_request_that_nobody_can_answer_is_refused_at_once(world: World) -> None:
    await world.conn.register(WORDS)
    assert await refused(world.conn.request(WORDS, "x")) == (walnatsd.ConflictError, "NO_ACTORS", False)


async def test_watchers_see_what_is_published_duplicates_too(world: World) -> None:
    await world.conn.register(COUNT, WORDS)
    async with world.conn.monitor(COUNT) as feed:
        await world.conn.emit(WORDS, "not watched")
        await world.conn.emit(COUNT, 1, uid="one", trace_id="t", headers={"team": "a"})
        await world.conn.emit(COUNT, 1, uid="one")
        seen = [await anext(feed) for _ in range(2)]
    assert [(each.uid, each.message, each.trace_id, each.headers.get("team")) for each in seen] == [
        ("one", 1, "t", "a"),
        ("one", 1, "", None),
    ]
    with pytest.raises(walnatsd.UnknownEventError):
        async with world.conn.monitor(walnatsd.Event("nothing", int)):
            pass


async def test_what_a_listener_leaves_behind_is_handed_on_and_counts_no_attempt(world: World) -> None:
    started = asyncio.Event()

    async def hang(_: int) -> None:
        started.set()
        await asyncio.Event().wait()

    handler = Handler()
    await world.conn.register(walnatsd.Actor("print", COUNT, hang))
    listening = asyncio.create_task(world.conn.listen(walnatsd.Actor("print", COUNT, hang)))
    await world.conn.emit(COUNT, 7)
    await started.wait()
    listening.cancel()
    await asyncio.sleep(0.01)
    listening.cancel()  # twice: it doesn't wait for the handler
    with pytest.raises(asyncio.CancelledError):
        await listening
    async with serving(world, walnatsd.Actor("print", COUNT, handler)):
        await until(lambda: handler.seen == [7])
    assert [facts.attempt for facts in handler.facts] == [1]


async def _is(value: Any, expected: object) -> bool:
    return bool(await value == expected)


async def _has_one(value: Any) -> bool:
    return len(await value) == 1
