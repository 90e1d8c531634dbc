"""Dead letters: stored first and terminated after, whole where they fit, and never at the price of the message."""

import asyncio
import calendar
import json
import time

import pytest
from aiohttp import web

from support.daemon import Sidecar, config_text, running
from support.letters import DEAD_LETTERS, dead_letters, unsettled
from support.nats_server import NatsServer
from support.receiver import Received, Receiver, answers
from support.waiting import until
from walnatsd.broker import dead_letters as dead_letters_module
from walnatsd.dispatch import handling

PREFIX = "walnats-dead-letter-"
FAILURES = 'walnatsd_dead_letter_failures_total{actor="print",event="counts"}'


def config(
    nats: NatsServer,
    receiver: Receiver,
    *,
    letters: dict[str, object] | None = None,
    timeout: int = 10,
    **options: object,
) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(
        nats.url, events=[{"name": "counts"}], actors=[actor | options], dead_letters=letters or {},
        shutdown_timeout=timeout,
    )  # fmt: skip


def counted(cause: str) -> str:
    return f'walnatsd_dead_letters_total{{actor="print",cause="{cause}",event="counts"}}'


@pytest.fixture
def hasty(monkeypatch) -> None:
    """Fractions of a second where an operator has half a minute."""
    monkeypatch.setattr(dead_letters_module, "STORE_BUDGET_S", 0.3)
    monkeypatch.setattr(handling, "UNSTORED_DEAD_LETTER_PAUSE_S", 0.2)


async def settled(nats: NatsServer) -> bool:
    return await unsettled(nats) == 0


async def cried(sidecar: Sidecar, times: int = 1) -> bool:
    return (await sidecar.metrics()).get(FAILURES, 0) >= times


async def test_a_dead_letter_is_stored_before_its_message_is_terminated(nats, receiver) -> None:
    receiver.answer = answers(then=400)
    seen: list[str] = []

    async def overhear(message) -> None:
        if message.data.startswith(b"+TERM") or message.subject.startswith("walnatsd."):
            seen.append(message.subject.split(".")[1])

    async with running(config(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        observer = jetstream._nc
        await observer.subscribe(">", cb=overhear)
        await observer.flush()
        for number in range(5):
            await sidecar.emit("counts", str(number))
            await until(lambda: settled(nats))
        await observer.flush()
        assert (await sidecar.metrics())[counted("rejected")] == 5
    assert seen == ["dead-letter", "ACK"] * 5
    assert len(await dead_letters(nats)) == 5


async def test_a_dead_letter_has_the_payload_as_stored_and_the_messages_headers(nats, receiver) -> None:
    receiver.answer = answers(then=422)
    payload = bytes(range(256))
    began = time.time()
    async with running(config(nats, receiver)) as sidecar:
        await sidecar.emit(
            "counts", payload, uid="u", trace_id="t",
            headers={"Content-Type": "application/x-own", "ce-subject": "s", "walnats-header-X-Mine": "m"},
        )  # fmt: skip
        await until(lambda: settled(nats))
    [(headers, stored)] = await dead_letters(nats)
    assert stored == payload
    assert headers["Content-Type"] == "application/x-own"
    assert headers["ce-subject"] == "s"
    assert headers["X-Mine"] == "m"
    assert headers["Walnats-Trace"] == "t"
    assert headers["walnatsd-original-Nats-Msg-Id"] == "u"
    assert headers[PREFIX + "status"] == "422"
    for name in ("stored-at", "last-attempt-at"):
        told = time.strptime(headers[PREFIX + name][:19], "%Y-%m-%dT%H:%M:%S")
        assert abs(calendar.timegm(told) - began) < 30
    assert PREFIX + "truncated" not in headers
    history = json.loads(headers[PREFIX + "history"])
    assert history["complete"]
    [attempt] = history["attempts"]
    assert (attempt["attempt"], attempt["outcome"], attempt["status"]) == (1, "rejected", 422)


async def test_what_would_steer_the_server_is_renamed_and_does_no_harm(nats, receiver) -> None:
    """A plain publisher sets them; republished as they are, the server refuses the dead letter, each for its own reason."""
    receiver.answer = answers(then=400)
    steering = {
        "Nats-Expected-Stream": "counts", "Nats-Expected-Last-Sequence": "0", "Nats-Expected-Last-Subject-Sequence": "0",
        "Nats-TTL": "1h", "Nats-Rollup": "sub", "Nats-Msg-Id": "plain",
    }  # fmt: skip
    async with nats.jetstream() as jetstream:
        stream = (
            b'{"name":"counts","subjects":["counts"],"retention":"interest","storage":"file","num_replicas":1,'
            b'"allow_msg_ttl":true,"allow_rollup_hdrs":true}'
        )
        await jetstream._api_request("$JS.API.STREAM.CREATE.counts", stream)
        async with running(config(nats, receiver)):
            await jetstream.publish("counts", b"7", headers=steering)
            await receiver.wait_for(1)
            await until(lambda: settled(nats))
    [(headers, payload)] = await dead_letters(nats)
    assert payload == b"7"
    assert {name: headers[f"walnatsd-original-{name}"] for name in steering} == steering
    assert [name for name in headers if name.lower().startswith("nats-")] == ["Nats-Msg-Id"]
    assert not [name for name in receiver.received[0].headers if name.startswith("nats-")]


async def test_a_message_of_the_largest_size_is_truncated_and_marked(nats, receiver) -> None:
    receiver.answer = answers(then=413)
    async with nats.jetstream() as jetstream, running(config(nats, receiver)):
        payload = bytes(jetstream._nc.max_payload)
        await jetstream.publish("counts", payload)
        await receiver.wait_for(1)
        await until(lambda: settled(nats))
    assert receiver.bodies == [payload]
    [(headers, stored)] = await dead_letters(nats)
    assert headers[PREFIX + "truncated"] == "history, payload"
    assert len(payload) - 2000 < len(stored) < len(payload)


async def test_a_message_with_all_the_headers_that_jetstream_takes_becomes_a_dead_letter_too(nats, receiver) -> None:
    """Its dead letter has a few more, which JetStream refused for ever."""
    receiver.answer = answers(then=400)
    async with nats.jetstream() as jetstream, running(config(nats, receiver)) as sidecar:
        await jetstream.publish("counts", b"7", headers={"Nats-X": "x" * 65_000, "Own": "o" * 400})
        await until(lambda: settled(nats))
        assert (await sidecar.metrics()).get(FAILURES, 0) == 0
    [(headers, payload)] = await dead_letters(nats)
    assert payload == b"7"
    assert headers["Own"] == "o" * 400
    assert headers[PREFIX + "truncated"] == "history, headers"


async def test_an_actor_gives_a_message_up_for_itself_alone(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        return web.Response(status=400 if received.headers["walnats-actor"] == "print" else 200)

    receiver.answer = answer
    actors = [{"name": name, "event": "counts", "url": receiver.url} for name in ("print", "other")]
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=actors)) as sidecar:
        await sidecar.emit("counts", "7")
        await until(lambda: settled(nats))
        await until(lambda: _other_settled(nats))
    [(headers, _)] = await dead_letters(nats)
    assert headers[PREFIX + "actor"] == "print"


async def _other_settled(nats: NatsServer) -> bool:
    return await unsettled(nats, actor="other") == 0


# ---- where it can't be stored


async def test_while_the_dead_letter_stream_is_full_the_message_waits_and_a_metric_cries(nats, receiver, hasty) -> None:
    receiver.answer = answers(then=400)
    async with running(config(nats, receiver, letters={"bytes": "6KiB"})) as sidecar:
        await sidecar.emit("counts", "x" * 3000)
        await until(lambda: settled(nats))
        await sidecar.emit("counts", "y" * 3000)
        await until(lambda: cried(sidecar, 2))
        assert await unsettled(nats) == 1
        assert (await sidecar.metrics())[counted("rejected")] == 1
        async with nats.jetstream() as jetstream:
            await jetstream.purge_stream(DEAD_LETTERS)
        await until(lambda: settled(nats))
        assert (await sidecar.metrics())[counted("rejected")] == 2
    assert [payload for _, payload in await dead_letters(nats)] == [b"y" * 3000]


async def test_a_deleted_dead_letter_stream_comes_back_before_the_message_is_terminated(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    async with running(config(nats, receiver, retry={"delays": [0.01], "max_attempts": 2})) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream(DEAD_LETTERS)
        await sidecar.emit("counts", "7")
        await until(lambda: settled(nats))
    [(headers, payload)] = await dead_letters(nats)
    assert payload == b"7"
    assert int(headers[PREFIX + "attempts"]) >= 2


async def test_a_dead_letter_that_was_stored_before_a_crash_counts_as_stored(nats, receiver) -> None:
    receiver.answer = answers(then=400)
    async with running(config(nats, receiver)) as sidecar:
        async with nats.jetstream() as jetstream:
            subject = "walnatsd.dead-letter.counts.print"
            await jetstream.publish(subject, b"before", headers={"Nats-Msg-Id": "dlq:counts:print:1:0"})
        await sidecar.emit("counts", "7")
        await until(lambda: settled(nats))
    assert [payload for _, payload in await dead_letters(nats)] == [b"before"]


async def test_a_stop_while_a_dead_letter_can_not_be_stored_loses_nothing(nats, receiver) -> None:
    receiver.answer = answers(then=400)
    async with running(config(nats, receiver, timeout=1, ack_wait=1)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream(DEAD_LETTERS)
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)
    assert await unsettled(nats) == 1
    async with running(config(nats, receiver, ack_wait=1)):
        await until(lambda: settled(nats))
    assert [payload for _, payload in await dead_letters(nats)] == [b"7"]


async def test_a_stop_between_the_answer_and_the_dead_letter_still_stores_it(nats, receiver) -> None:
    release = asyncio.Event()

    async def slow(_received: Received) -> web.StreamResponse:
        await release.wait()
        return web.Response(status=400)

    receiver.answer = slow
    async with running(config(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)
        asyncio.get_running_loop().call_later(0.2, release.set)
    assert await unsettled(nats) == 0
    assert [payload for _, payload in await dead_letters(nats)] == [b"7"]


# ---- without an attempt


@pytest.mark.parametrize("delay", ["soon", "nan", "inf", "", "1e400"])
async def test_a_malformed_delay_is_a_dead_letter_with_the_reason_and_no_attempt(nats, receiver, delay: str) -> None:
    async with nats.jetstream() as jetstream, running(config(nats, receiver)) as sidecar:
        await jetstream.publish("counts", b"7", headers={"Walnats-Delay": delay})
        await until(lambda: settled(nats))
        assert (await sidecar.metrics())[counted("malformed")] == 1
    [(headers, payload)] = await dead_letters(nats)
    assert receiver.received == []
    assert payload == b"7"
    assert headers["Walnats-Delay"] == delay
    assert headers[PREFIX + "reason"] == f"the header Walnats-Delay is no finite number of seconds: {delay!r}"
    assert headers[PREFIX + "attempts"] == "0"
    assert headers[PREFIX + "status"] == ""
