"""What actors can do besides taking one message: respond, take batches, run elsewhere; and the decorators."""

import asyncio
import json
import os
import threading
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

import walnatsd_client as walnatsd
from support.handlers import tell_where, tell_where_async
from walnatsd_client._declarations import actor_message

COUNT = walnatsd.Event("counts", int)


async def deliver(actor: walnatsd.Actor[Any], body: bytes, **headers: str) -> httpx.Response:
    """Call an actor's webhook as the sidecar does."""
    transport = httpx.ASGITransport(walnatsd.asgi_app(actor))
    facts = {"walnats-event": actor.event.name, "walnats-actor": actor.name, "walnats-sequence": "7"}
    async with httpx.AsyncClient(transport=transport, base_url="http://actor") as client:
        return await client.post("/", content=body, headers=facts | headers)


# ---- responses


@dataclass
class Sum:
    total: int


async def test_what_a_responding_handler_returns_is_the_answer_in_the_responses_schema() -> None:
    event = walnatsd.Event("words", str).with_response(int)
    response = await deliver(walnatsd.Actor("count", event, lambda text: len(text.split())), b'"a b c"')
    assert (response.status_code, response.content, response.headers["content-type"]) == (200, b"3", "application/json")
    event_of_sum = COUNT.with_response(Sum)

    async def add(count: int) -> Sum:
        return Sum(count + 1)

    response = await deliver(walnatsd.Actor("add", event_of_sum, add), b"1")
    assert response.content == b'{"total":2}'


async def test_a_response_that_cannot_be_written_is_another_attempt(caplog) -> None:
    event = COUNT.with_response(int)
    response = await deliver(walnatsd.Actor("bad", event, lambda _: object()), b"1")
    assert response.status_code == 500
    assert "returned what is no" in caplog.text


async def test_without_a_response_schema_nothing_is_answered() -> None:
    response = await deliver(walnatsd.Actor("plain", COUNT, lambda count: count), b"1")
    assert (response.status_code, response.content) == (204, b"")


def test_an_event_with_response_keeps_its_options_and_makes_its_actor_respond() -> None:
    event = walnatsd.Event("words", str, description="some text", replicas=3).with_response(int)
    assert (event.description, event.replicas, event.decode_response(b"7")) == ("some text", 3, 7)
    assert actor_message(walnatsd.Actor("count", event, len)).responds is True
    assert actor_message(walnatsd.Actor("count", event, len, responds=False)).responds is False
    assert not actor_message(walnatsd.Actor("plain", COUNT, print)).HasField("responds")


# ---- batches


def batch(*items: object) -> bytes:
    events = [{"walnatssequence": n, "walnatsattempt": 1, "data": item} for n, item in enumerate(items, start=1)]
    return json.dumps(events).encode()


BATCH = {"content-type": "application/cloudevents-batch+json"}


async def test_a_batch_actor_takes_many_messages_and_answers_for_each() -> None:
    seen: list[int] = []

    def take(counts: list[int]) -> list[walnatsd.Reject | walnatsd.Retry | None]:
        seen.extend(counts)
        return [None, walnatsd.Retry(reason="later"), walnatsd.Reject("never")]

    response = await deliver(walnatsd.BatchActor("sum", COUNT, take), batch(1, "no int", 2, 3), **BATCH)
    assert seen == [1, 2, 3]
    results = response.json()["results"]
    assert [(each["sequence"], each["status"]) for each in results] == [
        (1, "ack"), (2, "reject"), (3, "retry"), (4, "reject"),
    ]  # fmt: skip
    assert "not of the event's schema" in results[1]["reason"]


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (lambda _: None, 200),
        (lambda _: [None], 500),
        (lambda _: 7, 500),
        (lambda _: 1 / 0, 500),
    ],
)
async def test_a_batch_handler_answers_none_or_one_result_for_each(handler, status: int) -> None:
    response = await deliver(walnatsd.BatchActor("sum", COUNT, handler), batch(1, 2), **BATCH)
    assert response.status_code == status


async def test_a_batch_that_is_rejected_as_a_whole_says_so() -> None:
    def reject(_counts: list[int]) -> None:
        raise walnatsd.Reject("nothing of it")

    assert (await deliver(walnatsd.BatchActor("sum", COUNT, reject), batch(1, 2), **BATCH)).status_code == 422


async def test_binary_items_and_what_is_no_batch() -> None:
    raw = walnatsd.Event("raw", bytes)
    seen: list[bytes] = []
    item = {"walnatssequence": 1, "data_base64": "AP8="}
    response = await deliver(walnatsd.BatchActor("take", raw, seen.extend), json.dumps([item]).encode(), **BATCH)
    assert (response.status_code, seen) == (200, [b"\x00\xff"])
    for body in (b"no json", b"[1]", b"{}", b'[{"walnatssequence": 1}]'):
        assert (await deliver(walnatsd.BatchActor("take", raw, seen.extend), body, **BATCH)).status_code == 422


async def test_an_actor_that_is_declared_otherwise_keeps_its_messages() -> None:
    assert (await deliver(walnatsd.Actor("one", COUNT, print), batch(1), **BATCH)).status_code == 404
    assert (await deliver(walnatsd.BatchActor("many", COUNT, print), b"1")).status_code == 404


# ---- where handlers run


@pytest.mark.parametrize("handler", [tell_where, tell_where_async])
async def test_a_handler_runs_in_a_process_of_its_own(handler) -> None:
    response = await deliver(walnatsd.Actor("where", COUNT, handler, execute_in="process"), b"1")
    count, pid, _, sequence = response.text.split()
    assert (count, sequence) == ("1", "7")
    assert int(pid) != os.getpid()


@pytest.mark.parametrize(("execute_in", "here"), [("main", True), ("thread", False), (None, False)])
async def test_a_sync_handler_runs_on_the_loop_or_in_a_thread(execute_in, here: bool) -> None:
    response = await deliver(walnatsd.Actor("where", COUNT, tell_where, execute_in=execute_in), b"1")
    _, pid, thread, _ = response.text.split()
    assert int(pid) == os.getpid()
    assert (int(thread) == threading.get_ident()) is here


# ---- decorators


async def test_require_holds_a_handler_until_something_is_true() -> None:
    ready: list[bool] = []
    seen: list[int] = []

    @walnatsd.require(lambda: bool(ready), pause=0.01)
    async def take(count: int) -> None:
        seen.append(count)

    delivering = asyncio.create_task(deliver(walnatsd.Actor("take", COUNT, take), b"1"))
    await asyncio.sleep(0.05)
    assert seen == []
    ready.append(True)
    assert (await delivering).status_code == 204
    assert seen == [1]


@pytest.mark.parametrize("is_async", [True, False])
async def test_suppress_takes_an_exception_for_success(caplog, is_async: bool) -> None:
    def fail(_count: int) -> None:
        raise KeyError("gone")

    async def fail_async(_count: int) -> None:
        fail(_count)

    handler: Any = fail_async if is_async else fail
    suppressed = walnatsd.suppress(KeyError)(handler)
    assert asyncio.iscoroutinefunction(suppressed) is is_async
    assert (await deliver(walnatsd.Actor("take", COUNT, suppressed), b"1")).status_code == 204
    assert "suppressed in the handler" in caplog.text
    other = walnatsd.suppress(ValueError, logger=None)(handler)
    assert (await deliver(walnatsd.Actor("take", COUNT, other), b"1")).status_code == 500
