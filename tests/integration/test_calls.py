"""Calls: emit, and wait for what the first responding actor answers, over gRPC and HTTP."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from support.callers import Answered, Caller, answered, caller, not_answered
from support.daemon import Sidecar, config_text, process, running
from support.doors import both_doors
from support.grpc_calls import refused, stubs
from support.nats_server import NatsServer, nats_server
from support.proxy import Proxy, proxy
from support.receiver import Received, Receiver
from support.streams import stored
from support.waiting import until
from walnatsd.broker import publisher
from walnatsd.v1 import events_pb2


def config(
    url: str, receiver: Receiver | None = None, *, event: dict[str, object] | None = None, **parts: object
) -> str:
    """An event with a responding actor, or without one, and an event that nobody acts on."""
    actor = {"name": "count", "event": "words", "retry": {"delays": [0.05], "max_attempts": 2}, "responds": True}
    actors = [actor | {"url": receiver.url}] if receiver is not None else []
    return config_text(url, events=[{"name": "words"} | (event or {}), {"name": "lonely"}], actors=actors, **parts)


async def count_words(received: Received) -> web.StreamResponse:
    return web.json_response(len(received.body.split()))


class Held:
    """An actor that answers when it is let."""

    def __init__(self, receiver: Receiver) -> None:
        self.release = asyncio.Event()
        receiver.answer = self._answer

    async def _answer(self, received: Received) -> web.StreamResponse:
        await self.release.wait()
        return await count_words(received)


async def calls(sidecar: Sidecar, outcome: str, event: str = "words") -> float:
    return (await sidecar.metrics()).get(f'walnatsd_calls_total{{event="{event}",outcome="{outcome}"}}', 0)


# ---- answers


@both_doors
async def test_the_answer_is_the_body_of_the_2xx_with_its_content_type(nats, receiver, kind) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        return web.Response(body=received.body + b"\0\xff", content_type="application/octet-stream")

    receiver.answer = answer
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        told = await client.call("words", b"\xfe", uid="u")
        assert told == Answered(b"\xfe\0\xff", "application/octet-stream", "u", "count")
        assert await calls(sidecar, "answered") == 1
        metrics = await sidecar.metrics()
        assert metrics['walnatsd_emits_total{event="words",outcome="stored"}'] == 1
        assert metrics['walnatsd_call_duration_seconds_count{event="words",outcome="answered"}'] == 1


@both_doors
async def test_a_response_may_be_empty(nats, receiver, kind) -> None:
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        told = answered(await client.call("words"))
    assert told.payload == b""
    assert told.uid


async def test_the_message_of_a_call_is_one_as_any_other_and_no_reply_header_reaches_the_actor(nats, receiver) -> None:
    receiver.answer = count_words
    async with running(config(nats.url, receiver)) as sidecar:
        url = f"http://{sidecar.http}/v1/events/words/request?uid=u&trace_id=t&timeout=10s"
        headers = {"ce-subject": "s", "walnats-header-X-Mine": "1", "Content-Type": "text/plain"}
        async with sidecar.session.post(url, data=b"a b", headers=headers) as response:
            assert (response.status, await response.read()) == (200, b"2")
    [received] = receiver.received
    told = {name: received.headers.get(name) for name in ("walnats-uid", "walnats-trace", "ce-subject", "x-mine")}
    assert told == {"walnats-uid": "u", "walnats-trace": "t", "ce-subject": "s", "x-mine": "1"}
    assert received.headers["content-type"] == "text/plain"
    assert not {"walnats-reply", "walnats-reply-errors"} & set(received.headers)


async def test_many_calls_at_once_get_each_its_own_answer(nats, receiver) -> None:
    receiver.answer = count_words
    async with running(config(nats.url, receiver)) as sidecar, caller("grpc", sidecar) as client:
        told = await asyncio.gather(*(client.call("words", b"x " * n, timeout_s=30) for n in range(100)))
    assert [answered(each).payload for each in told] == [str(n).encode() for n in range(100)]


async def test_another_sidecar_may_answer_and_a_callers_message_is_encoded_but_the_answer_is_not(
    nats, receiver, monkeypatch
) -> None:
    receiver.answer = count_words
    event = {"codecs": [{"gzip": {"level": 9}}]}
    asking = config(nats.url, event=event)
    async with (
        running(config(nats.url, receiver, event=event)),
        running(asking) as sidecar,
        nats.jetstream() as jetstream,
        caller("http", sidecar) as client,
    ):
        seen = await jetstream._nc.subscribe("words")
        assert answered(await client.call("words", b"a b c")).payload == b"3"
        assert (await seen.next_msg(timeout=5)).data[:2] == b"\x1f\x8b"
    assert receiver.bodies == [b"a b c"]


async def test_the_first_answer_wins_and_later_ones_are_ignored(nats, receiver) -> None:
    async def by_actor(received: Received) -> web.StreamResponse:
        if received.headers["walnats-actor"] == "slow":
            await first_is_told.wait()
        return web.Response(text=received.headers["walnats-actor"])

    first_is_told = asyncio.Event()
    receiver.answer = by_actor
    actors = [{"name": name, "event": "words", "url": receiver.url, "responds": True} for name in ("slow", "quick")]
    text = config_text(nats.url, events=[{"name": "words"}], actors=actors)
    async with running(text) as sidecar, caller("grpc", sidecar) as client:
        assert answered(await client.call("words", timeout_s=30)).payload == b"quick"
        first_is_told.set()
        await until(lambda: _has(sidecar, 'walnatsd_answers_total{actor="slow",event="words",result="sent"}'))
        assert answered(await client.call("words", timeout_s=30)).payload in (b"quick", b"slow")


async def _has(sidecar: Sidecar, name: str) -> bool:
    return name in await sidecar.metrics()


async def test_a_foreign_answers_headers_are_told_over_grpc_and_its_reserved_ones_are_not(nats) -> None:
    async with running(config(nats.url)) as sidecar, nats.jetstream() as jetstream, stubs(sidecar.grpc) as both:
        subscription = await jetstream.pull_subscribe("words", "foreign", stream="words")
        call = both.events.Call(events_pb2.CallRequest(emit=events_pb2.EmitRequest(event="words", payload=b"x")))
        call_task = asyncio.ensure_future(call)
        [message] = await subscription.fetch(1, timeout=10)
        answer_headers = {
            "Content-Type": "text/plain", "X-Mine": "ü", "walnats-actor": "foreign", "Nats-Msg-Id": "1",
            "Walnats-Reply": "somewhere.else", "Set-Cookie": "kept",
        }  # fmt: skip
        await jetstream._nc.publish((message.headers or {})["Walnats-Reply"], b"yes", headers=answer_headers)
        answer = await call_task
        uid = (message.headers or {})["Nats-Msg-Id"]
    assert (answer.payload, answer.content_type) == (b"yes", "text/plain")
    assert dict(answer.headers) == {
        "x-mine": "ü", "walnats-actor": "foreign", "walnats-uid": uid, "set-cookie": "kept",
    }  # fmt: skip


async def test_an_answer_can_neither_split_nor_add_headers_of_the_http_response(nats) -> None:
    async with running(config(nats.url)) as sidecar, nats.jetstream() as jetstream, caller("http", sidecar) as client:
        subscription = await jetstream.pull_subscribe("words", "foreign", stream="words")
        call = asyncio.create_task(client.call("words", timeout_s=10))
        [message] = await subscription.fetch(1, timeout=10)
        subject = (message.headers or {})["Walnats-Reply"]
        head = b"NATS/1.0\r\nContent-Type: text/plain\nX-Evil: 1\r\nwalnats-actor: a\rX-Evil: 2\r\n\r\n"
        frame = f"HPUB {subject} {len(head)} {len(head) + 2}\r\n".encode() + head + b"ok\r\n"
        await jetstream._nc._send_command(frame)
        await jetstream._nc.flush()
        told = answered(await call)
    assert told.payload == b"ok"
    assert (told.content_type, told.actor) == ("text/plain%0AX-Evil: 1", "a%0DX-Evil: 2")


# ---- what is told at once


@both_doors
async def test_an_event_without_actors_is_told_at_once_and_its_uid_stays_free(nats, receiver, kind) -> None:
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        told = not_answered(await client.call("lonely", uid="u", timeout_s=60))
        assert (told.code, told.reason) == (("FAILED_PRECONDITION" if kind == "grpc" else "409"), "NO_ACTORS")
        assert "has no actor" in told.message
        assert (told.uid, told.maybe_stored) == ("u", False)
        assert await sidecar.emit("lonely", "1", uid="u") | {"sequence": 0} == {
            "uid": "u", "stream": "lonely", "sequence": 0, "duplicate": False, "scheduled": False, "spooled": False,
        }  # fmt: skip


async def test_an_actor_that_another_program_made_counts_and_one_that_it_deleted_does_not(nats) -> None:
    async with running(config(nats.url)) as sidecar, caller("grpc", sidecar) as client, nats.jetstream() as jetstream:
        await jetstream.add_consumer("lonely", durable_name="foreign")
        assert not_answered(await client.call("lonely", timeout_s=0.2)).reason == "NO_RESPONSE"
        await jetstream.delete_consumer("lonely", "foreign")
        await until(lambda: _is_refused_for_lack_of_actors(client))


async def _is_refused_for_lack_of_actors(client: Caller) -> bool:
    return not_answered(await client.call("lonely", timeout_s=0.2)).reason == "NO_ACTORS"


@both_doors
async def test_a_uid_that_was_emitted_before_is_told_at_once_and_nothing_is_stored(nats, receiver, kind) -> None:
    receiver.answer = count_words
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        answered(await client.call("words", uid="u"))
        told = not_answered(await client.call("words", uid="u", timeout_s=60))
        assert len(receiver.received) == 1
    assert (told.code, told.reason) == (("ALREADY_EXISTS" if kind == "grpc" else "409"), "DUPLICATE")
    assert (told.uid, told.maybe_stored) == ("u", False)
    assert "words/1" in told.message


async def test_of_two_calls_with_one_uid_one_is_answered_and_the_other_told(nats, receiver) -> None:
    held = Held(receiver)
    async with running(config(nats.url, receiver)) as sidecar, caller("grpc", sidecar) as client:
        both = [asyncio.create_task(client.call("words", uid="u", timeout_s=30)) for _ in range(2)]
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert not_answered(done.pop().result()).reason == "DUPLICATE"
        held.release.set()
        told = await asyncio.gather(*both)
    assert [type(each).__name__ for each in sorted(told, key=lambda each: type(each).__name__)] == [
        "Answered",
        "Refused",
    ]


@both_doors
@pytest.mark.parametrize("timeout_s", [0, 3601])
async def test_a_timeout_that_makes_no_sense_is_refused(nats, receiver, kind, timeout_s) -> None:
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        told = not_answered(await client.call("words", timeout_s=timeout_s))
        assert not receiver.received
    assert (told.reason, told.maybe_stored) == ("INVALID_TIME", False)
    assert "more than 0 and at most 3600 s" in told.message


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1e400", "1y", "4s 5s"])
async def test_a_timeout_that_is_no_duration_is_refused(nats, receiver, text) -> None:
    async with running(config(nats.url, receiver)) as sidecar:
        url = f"http://{sidecar.http}/v1/events/words/request"
        async with sidecar.session.post(url, data=b"x", params={"timeout": text}) as response:
            assert response.status == 400
            assert (await response.json(content_type=None))["reason"] == "INVALID_TIME"
    assert not receiver.received


async def test_a_negative_timeout_over_grpc_and_a_call_without_an_emit_are_refused(nats, receiver) -> None:
    async with running(config(nats.url, receiver)) as sidecar, stubs(sidecar.grpc) as both:
        emit = events_pb2.EmitRequest(event="words")
        for request, reason in (
            (events_pb2.CallRequest(emit=emit, timeout=Duration(seconds=-1)), "INVALID_TIME"),
            (events_pb2.CallRequest(emit=emit, timeout=Duration(seconds=1 << 40)), "INVALID_TIME"),
            (events_pb2.CallRequest(), "INVALID_NAME"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await both.events.Call(request)
            assert refused(caught.value).reason == reason
    assert not receiver.received


async def test_a_call_can_not_be_delayed(nats, receiver) -> None:
    async with running(config(nats.url, receiver)) as sidecar, caller("grpc", sidecar) as client:
        told = not_answered(await client.call("words", delay=Duration(seconds=1)))
        async with caller("http", sidecar) as by_http:
            told_by_http = not_answered(await by_http.call("words", deliver_at="2030-01-01T00:00:00Z"))
    assert (told.reason, told_by_http.reason) == ("INVALID_TIME", "INVALID_TIME")
    assert "can't be delayed" in told.message
    assert not receiver.received


@both_doors
async def test_what_an_emit_refuses_a_call_refuses_too(nats, receiver, kind) -> None:
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        unknown = not_answered(await client.call("nobody"))
        uid = not_answered(await client.call("words", uid="ü"))
        large = not_answered(await client.call("words", b"x" * (1 << 20)))
        assert await calls(sidecar, "UNKNOWN_EVENT", "(unknown)") == 1
    assert [each.reason for each in (unknown, uid, large)] == ["UNKNOWN_EVENT", "INVALID_UID", "TOO_LARGE"]


async def test_no_more_calls_wait_than_may_be_in_flight(nats, receiver) -> None:
    held = Held(receiver)
    text = config(nats.url, receiver, emit={"max_in_flight": 2})
    async with running(text) as sidecar, caller("grpc", sidecar) as client:
        waiting = [asyncio.create_task(client.call("words", timeout_s=30)) for _ in range(2)]
        await receiver.wait_for(2)
        assert not_answered(await client.call("words")).reason == "BUSY"
        held.release.set()
        for each in await asyncio.gather(*waiting):
            answered(each)
        answered(await client.call("words"))


# ---- no answer


@both_doors
async def test_without_an_answer_the_caller_hears_that_the_message_is_stored(nats, receiver, kind) -> None:
    held = Held(receiver)
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        told = not_answered(await client.call("words", uid="u", timeout_s=0.3))
        held.release.set()
    assert (told.code, told.reason) == (("DEADLINE_EXCEEDED" if kind == "grpc" else "504"), "NO_RESPONSE")
    assert (told.uid, told.maybe_stored) == ("u", True)
    assert told.message.startswith("the message is stored as words/1, and no actor answered within 0.3 s")
    assert "lost" not in told.message


async def test_an_actor_that_does_not_respond_leaves_the_call_unanswered(nats, receiver) -> None:
    actor = {"name": "silent", "event": "words", "url": receiver.url}
    text = config_text(nats.url, events=[{"name": "words"}], actors=[actor])
    async with running(text) as sidecar, caller("grpc", sidecar) as client:
        assert not_answered(await client.call("words", timeout_s=0.3)).reason == "NO_RESPONSE"


async def test_where_no_timeout_is_given_the_call_waits_for_four_seconds(nats, receiver) -> None:
    held = Held(receiver)
    async with running(config(nats.url, receiver)) as sidecar, caller("http", sidecar) as client:
        began = time.monotonic()
        told = not_answered(await client.call("words"))
        took_s = time.monotonic() - began
        held.release.set()
    assert "within 4 s" in told.message
    assert took_s >= 4


async def test_a_grpc_deadline_ends_the_wait_and_the_caller_sees_our_answer(nats, receiver) -> None:
    held = Held(receiver)
    async with running(config(nats.url, receiver)) as sidecar, stubs(sidecar.grpc) as both:
        emit = events_pb2.EmitRequest(event="words", uid="u")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await both.events.Call(events_pb2.CallRequest(emit=emit, timeout=Duration(seconds=60)), timeout=1)
        held.release.set()
    assert refused(caught.value).reason == "NO_RESPONSE"


@both_doors
async def test_an_actor_that_gives_up_is_told_with_its_reason(nats, receiver, kind) -> None:
    async def reject(_received: Received) -> web.StreamResponse:
        return web.Response(status=422, text="no words")

    receiver.answer = reject
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        told = not_answered(await client.call("words", uid="u", timeout_s=60))
    assert (told.code, told.reason) == (("ABORTED" if kind == "grpc" else "502"), "DEAD_LETTER")
    assert told.message == "count gave the message up, which is a dead letter now: 422: no words"
    assert (told.uid, told.maybe_stored) == ("u", True)


async def test_attempts_that_fail_are_waited_over(nats, receiver) -> None:
    async def fail_first(received: Received) -> web.StreamResponse:
        return web.Response(status=500) if received.attempt == 1 else await count_words(received)

    receiver.answer = fail_first
    async with running(config(nats.url, receiver)) as sidecar, caller("grpc", sidecar) as client:
        assert answered(await client.call("words", b"a b", timeout_s=30)).payload == b"2"


@both_doors
async def test_an_answer_larger_than_nats_takes_is_told(nats, receiver, kind) -> None:
    async def large(_received: Received) -> web.StreamResponse:
        return web.Response(body=b"x" * (2 << 20))

    receiver.answer = large
    async with running(config(nats.url, receiver)) as sidecar, caller(kind, sidecar) as client:
        told = not_answered(await client.call("words", timeout_s=60))
    assert (told.code, told.reason) == (("RESOURCE_EXHAUSTED" if kind == "grpc" else "502"), "RESPONSE_TOO_LARGE")
    assert "2097152 bytes" in told.message
    assert told.maybe_stored


async def test_an_answer_of_the_largest_size_that_nats_takes_comes_through(tmp_path, receiver) -> None:
    async def large(_received: Received) -> web.StreamResponse:
        return web.Response(body=b"x" * (7 << 20))

    receiver.answer = large
    async with (
        nats_server(tmp_path / "large", options={"max_payload": 8 << 20}) as nats,
        running(config(nats.url, receiver)) as sidecar,
        caller("http", sidecar) as client,
    ):
        assert len(answered(await client.call("words", timeout_s=60)).payload) == 7 << 20


# ---- outages and stops


@both_doors
async def test_without_nats_a_call_ends_with_its_own_timeout_and_nothing_is_stored(nats, kind) -> None:
    await nats.stop()
    async with running(config(nats.url), ready=False) as sidecar, caller(kind, sidecar) as client:
        told = not_answered(await client.call("words", timeout_s=0.3))
    assert (told.reason, told.maybe_stored) == ("NATS_UNAVAILABLE", False)
    assert told.retry_after_s is not None


async def test_a_call_at_the_start_waits_for_the_actor_to_be_registered(nats, receiver) -> None:
    receiver.answer = count_words
    await nats.stop()
    async with running(config(nats.url, receiver), ready=False) as sidecar, caller("grpc", sidecar) as client:
        call = asyncio.create_task(client.call("words", b"a b", timeout_s=60))
        await until(lambda: _is_waiting_for_nats(sidecar))
        await nats.start()
        assert answered(await call).payload == b"2"


async def test_calls_while_actors_are_being_registered_are_not_told_that_there_are_none(nats, receiver) -> None:
    receiver.answer = count_words
    async with nats.jetstream() as jetstream:  # so that there is an event without actors from the very beginning
        await jetstream.add_stream(name="words", subjects=["words"], retention="interest")
    asked = []
    async with running(config(nats.url, receiver), ready=False) as sidecar, caller("grpc", sidecar) as client:
        while not await sidecar.is_ready():
            asked.append(asyncio.create_task(client.call("words", b"a b", timeout_s=60)))
        assert asked
        for told in await asyncio.gather(*asked):
            assert answered(told).payload == b"2"


async def _is_waiting_for_nats(sidecar: Sidecar) -> bool:
    return "nats" in (await sidecar.readiness())[1]


async def test_an_answer_that_comes_after_a_reconnect_reaches_its_call(nats, receiver) -> None:
    held = Held(receiver)
    async with _far_from_its_actor(nats, receiver) as (way, sidecar, client):
        call = asyncio.create_task(client.call("words", b"a b c", timeout_s=60))
        await receiver.wait_for(1)
        await way.cut()
        await until(lambda: _has_reconnected(sidecar))
        held.release.set()
        assert answered(await call).payload == b"3"


@contextlib.asynccontextmanager
async def _far_from_its_actor(nats: NatsServer, receiver: Receiver) -> AsyncIterator[tuple[Proxy, Sidecar, Caller]]:
    """A sidecar that reaches NATS through a proxy, and one beside NATS that has the actor."""
    async with (
        proxy(nats.port) as way,
        running(config(nats.url, receiver)),
        running(config(way.url)) as sidecar,
        caller("grpc", sidecar) as client,
    ):
        yield way, sidecar, client


async def _has_reconnected(sidecar: Sidecar) -> bool:
    return (await sidecar.metrics())["walnatsd_nats_reconnects_total"] >= 1 and await sidecar.is_ready()


async def test_an_answer_that_was_missed_while_the_connection_was_away_is_told_as_such(nats, receiver) -> None:
    held = Held(receiver)
    async with _far_from_its_actor(nats, receiver) as (way, sidecar, client):
        call = asyncio.create_task(client.call("words", timeout_s=2))
        await receiver.wait_for(1)
        await way.cut()
        await until(lambda: _has_reconnected(sidecar))
        told = not_answered(await call)
        held.release.set()
    assert told.reason == "NO_RESPONSE"
    assert told.message.endswith("The connection to NATS was lost meanwhile, so an answer may have been missed")


@pytest.mark.parametrize("uid", ["", "u"])
async def test_a_call_whose_own_retry_is_the_duplicate_is_answered_all_the_same(
    nats, receiver, uid, monkeypatch
) -> None:
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.3)
    receiver.answer = count_words
    async with (
        proxy(nats.port) as way,
        running(
            config(way.url, receiver)
        ) as sidecar,  # it has the actor itself, so it need not ask whether there is one
        caller("grpc", sidecar) as client,
        nats.jetstream() as jetstream,
    ):
        seen = await jetstream._nc.subscribe("words")
        await jetstream._nc.flush()
        way.hold_answers()
        call = asyncio.create_task(client.call("words", b"a b", uid=uid, timeout_s=60))
        await until(lambda: seen.pending_msgs >= 2, what="the emit to be sent again")
        way.resume()
        assert answered(await call).payload == b"2"
    assert receiver.bodies == [b"a b"]


async def test_a_stop_lets_calls_be_answered_that_wait_for_other_sidecars(nats, receiver, tmp_path) -> None:
    held = Held(receiver)
    async with running(config(nats.url, receiver)), process(tmp_path, config(nats.url)) as daemon:
        assert daemon.sidecar is not None
        async with caller("http", daemon.sidecar) as client:
            call = asyncio.create_task(client.call("words", b"a b", timeout_s=60))
            await receiver.wait_for(1)
            daemon.send_signal(15)
            await until(lambda: daemon.said("stopping"))
            held.release.set()
            assert answered(await call).payload == b"2"
        assert await daemon.wait() == 0


@both_doors
async def test_a_call_that_nobody_answers_does_not_hold_up_a_stop_and_is_told_why(
    nats, receiver, kind, tmp_path
) -> None:
    held = Held(receiver)
    text = config(nats.url, shutdown_timeout=3)
    async with running(config(nats.url, receiver)), process(tmp_path, text) as daemon:
        assert daemon.sidecar is not None
        async with caller(kind, daemon.sidecar) as client:
            call = asyncio.create_task(client.call("words", uid="u", timeout_s=60))
            await receiver.wait_for(1)
            daemon.send_signal(15)
            told = not_answered(await call)
        assert await daemon.wait() == 0
        held.release.set()
    assert (told.reason, told.uid, told.maybe_stored) == ("STOPPING", "u", True)


@both_doors
async def test_a_caller_that_goes_away_leaves_nothing_behind(nats, receiver, kind) -> None:
    held = Held(receiver)
    text = config(nats.url, receiver, emit={"max_in_flight": 1})
    async with running(text) as sidecar, caller(kind, sidecar) as client:
        call = asyncio.create_task(client.call("words", timeout_s=3600))
        await receiver.wait_for(1)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await until(lambda: calls(sidecar, "cancelled"))
        held.release.set()
        answered(await client.call("words", timeout_s=30))


async def test_what_is_stored_names_an_inbox_that_nobody_can_guess_and_asks_for_errors(nats: NatsServer) -> None:
    async with running(config(nats.url)) as sidecar, caller("grpc", sidecar) as client, nats.jetstream() as jetstream:
        await jetstream.add_consumer("words", durable_name="keeper")
        for _ in range(2):
            not_answered(await client.call("words", timeout_s=0.1))
    subjects = []
    for _, header in await stored(nats, "words"):
        assert header["Walnats-Reply-Errors"] == "1"
        subjects.append(header["Walnats-Reply"])
    prefixes = {subject.rpartition(".")[0] for subject in subjects}
    assert len(set(subjects)) == 2
    assert len(prefixes) == 1
    assert all(subject.startswith("_INBOX.") and len(subject.rpartition(".")[2]) == 16 for subject in subjects)
