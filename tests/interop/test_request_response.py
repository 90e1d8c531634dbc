"""Requests and answers between walnatsd and the walnats library."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import walnats
from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from support.callers import answered, caller, not_answered
from support.daemon import config_text, running
from support.doors import both_doors
from support.grpc_calls import stubs
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.waiting import until
from walnatsd.v1 import events_pb2

WORDS = walnats.Event("words", str).with_response(int)


def responder(nats: NatsServer, receiver: Receiver, **options: object) -> str:
    actor = {
        "name": "count", "event": "words", "url": receiver.url, "responds": True,
        "retry": {"delays": [0.05], "max_attempts": 2},
    }  # fmt: skip
    return config_text(nats.url, events=[{"name": "words"}], actors=[actor | options])


async def count_words(received: Received) -> web.StreamResponse:
    return web.json_response(len(received.body.split()))


async def answers(sidecar, result: str) -> float:
    return (await sidecar.metrics()).get(f'walnatsd_answers_total{{actor="count",event="words",result="{result}"}}', 0)


async def test_walnats_asks_and_a_webhook_answers(nats, receiver) -> None:
    receiver.answer = count_words
    async with running(responder(nats, receiver)), walnats.Events(WORDS).connect(nats.url) as events:
        assert await events.request(WORDS, "one two three") == 3


async def test_the_answer_goes_out_only_after_the_confirmed_ack(nats, receiver) -> None:
    receiver.answer = count_words
    async with running(responder(nats, receiver)), nats.jetstream() as jetstream:
        client = jetstream._nc
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        await jetstream.publish("words", b'"a b"', headers={"Walnats-Reply": inbox})
        answer = await subscription.next_msg(timeout=5)
        info = await jetstream.consumer_info("words", "count")
    assert answer.data == b"2"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["walnats-actor"] == "count"
    assert info.num_ack_pending == 0


async def test_a_reply_subject_outside_the_allowed_ones_is_ignored_and_counted(nats, receiver) -> None:
    receiver.answer = count_words
    async with running(responder(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        subscription = await jetstream._nc.subscribe("evil.>")
        await jetstream.publish("words", b"x", headers={"Walnats-Reply": "evil.subject"})
        await jetstream.publish("words", b"x", headers={"Walnats-Reply": "$JS.API.STREAM.DELETE.words"})
        await until(lambda: _is(answers(sidecar, "refused"), 2))
        assert (await jetstream.stream_info("words")).config.name == "words"
        assert subscription.pending_msgs == 0


async def _is(value, expected: float) -> bool:
    return await value == expected


async def test_an_actor_that_does_not_respond_answers_nobody(nats, receiver) -> None:
    receiver.answer = count_words
    async with running(responder(nats, receiver, responds=False)), nats.jetstream() as jetstream:
        inbox = jetstream._nc.new_inbox()
        subscription = await jetstream._nc.subscribe(inbox)
        await jetstream.publish("words", b"x", headers={"Walnats-Reply": inbox})
        await receiver.wait_for(1)

        async def settled() -> bool:
            return not (await jetstream.consumer_info("words", "count")).num_ack_pending

        await until(settled)
        await jetstream._nc.flush()
        assert subscription.pending_msgs == 0


async def test_a_dead_letter_answers_who_asked_for_errors_and_nobody_else(nats, receiver) -> None:
    async def reject(_received: Received) -> web.StreamResponse:
        return web.Response(status=422, text="no words")

    receiver.answer = reject
    async with running(responder(nats, receiver)), nats.jetstream() as jetstream:
        client = jetstream._nc
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox + ".*")
        await jetstream.publish("words", b"x", headers={"Walnats-Reply": inbox + ".quiet"})
        asked = {"Walnats-Reply": inbox + ".errors", "Walnats-Reply-Errors": "1"}
        await jetstream.publish("words", b"x", headers=asked)
        answer = await subscription.next_msg(timeout=5)
        assert answer.subject.endswith(".errors")
        assert answer.headers["Walnats-Error"] == "DEAD_LETTER"
        assert answer.headers["Walnats-Error-Message"] == "422: no words"
        await client.flush()
        assert subscription.pending_msgs == 0


async def test_a_response_cut_short_is_asked_for_again(nats, receiver) -> None:
    async def cut_once(received: Received) -> web.StreamResponse:
        if received.attempt > 1:
            return web.json_response(7)
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(_request(receiver))
        await response.write(b"7")
        raise ConnectionResetError

    receiver.answer = cut_once
    async with running(responder(nats, receiver)), walnats.Events(WORDS).connect(nats.url) as events:
        assert await events.request(WORDS, "x", timeout=10) == 7
    assert [received.attempt for received in receiver.received] == [1, 2]


def _request(receiver: Receiver) -> web.Request:
    assert receiver.request is not None
    return receiver.request


async def test_an_answer_larger_than_nats_takes_is_told_to_who_asked(nats, receiver) -> None:
    async def large(_received: Received) -> web.StreamResponse:
        return web.Response(body=b"x" * (2 << 20))

    receiver.answer = large
    async with running(responder(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        inbox = jetstream._nc.new_inbox()
        subscription = await jetstream._nc.subscribe(inbox)
        await jetstream.publish("words", b"x", headers={"Walnats-Reply": inbox})
        answer = await subscription.next_msg(timeout=5)
        assert answer.headers["Walnats-Error"] == "TOO_LARGE"
        assert await answers(sidecar, "too-large") == 1


async def test_a_walnats_actor_answers_beside_ours_and_the_first_one_wins(nats, receiver) -> None:
    async def slow(received: Received) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return await count_words(received)

    receiver.answer = slow
    actor = walnats.Actor("theirs", WORDS, lambda text: 100 + len(text.split()))
    async with running(responder(nats, receiver)), walnats.Actors(actor).connect(nats.url) as actors:
        await actors.register()
        listening = asyncio.create_task(actors.listen())
        async with walnats.Events(WORDS).connect(nats.url) as events:
            assert await events.request(WORDS, "one two") == 102
        await receiver.wait_for(1)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


# ---- walnatsd asks


@contextlib.asynccontextmanager
async def listening(nats: NatsServer, actor: Any) -> AsyncIterator[None]:
    """An actor of the walnats library at work."""
    async with walnats.Actors(actor).connect(nats.url) as actors:
        await actors.register()
        listener = asyncio.create_task(actors.listen())
        try:
            yield
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


def responding(nats: NatsServer, handler: Callable[[str], int], **options: Any) -> Any:
    """The same, of an actor that responds."""
    return listening(nats, walnats.Actor("theirs", WORDS, handler, **options))


def count_theirs(text: str) -> int:
    return len(text.split())


@both_doors
async def test_walnatsd_asks_and_a_walnats_actor_answers(nats, kind) -> None:
    text = config_text(nats.url, events=[{"name": "words"}])
    async with running(text) as sidecar, responding(nats, count_theirs), caller(kind, sidecar) as client:
        told = answered(await client.call("words", b'"one two three"', uid="u", timeout_s=30))
    assert (told.payload, told.uid, told.actor) == (b"3", "u", None)


async def test_the_headers_of_the_question_that_walnats_sends_back_are_not_taken_for_those_of_the_answer(nats) -> None:
    text = config_text(nats.url, events=[{"name": "words"}])
    emit = events_pb2.EmitRequest(
        event="words", payload=b'"a b"', content_type="text/csv", headers={"ce-subject": "s", "X-Mine": "1"}, uid="u"
    )
    async with running(text) as sidecar, responding(nats, count_theirs), stubs(sidecar.grpc) as both:
        answer = await both.events.Call(events_pb2.CallRequest(emit=emit, timeout=Duration(seconds=30)))
    assert (answer.payload, answer.content_type) == (b"2", "application/json")
    assert dict(answer.headers) == {"walnats-uid": "u"}


async def test_a_walnats_actor_that_fails_says_nothing_so_the_call_is_not_answered(nats) -> None:
    def fail(_text: str) -> int:
        raise ZeroDivisionError

    text = config_text(nats.url, events=[{"name": "words"}])
    async with (
        running(text) as sidecar,
        responding(nats, fail, max_attempts=1),
        caller("grpc", sidecar) as client,
    ):
        told = not_answered(await client.call("words", b'"a"', timeout_s=0.5))
    assert told.reason == "NO_RESPONSE"


async def test_a_walnats_actor_that_does_not_respond_leaves_the_call_unanswered(nats) -> None:
    heard: list[str] = []
    actor = walnats.Actor("theirs", walnats.Event("words", str), heard.append)
    text = config_text(nats.url, events=[{"name": "words"}])
    async with running(text) as sidecar, listening(nats, actor), caller("grpc", sidecar) as client:
        told = not_answered(await client.call("words", b'"a"', timeout_s=1))
        await until(lambda: heard == ["a"])
    assert told.reason == "NO_RESPONSE"
