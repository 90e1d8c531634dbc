"""What somebody deleted behind walnatsd's back comes back, and nothing else comes to harm by it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

from aiohttp import web
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from structlog.testing import capture_logs

from support.broker import Broker, broker
from support.daemon import Sidecar, config_text, running
from support.letters import dead_letters
from support.receiver import Received, Receiver
from support.waiting import until
from walnatsd.api import watch
from walnatsd.broker import jetstream as module
from walnatsd.broker.delivery import REPLACED

CREATE = "CONSUMER.CREATE.counts.print"
STREAM = {"name": "counts", "subjects": ["counts"], "retention": "interest"}
CONSUMER = {
    "stream_name": "counts", "action": "create",
    "config": {"durable_name": "print", "name": "print", "ack_policy": "explicit", "deliver_policy": "all"},
}  # fmt: skip


async def test_a_deleted_consumer_is_restored_and_that_is_said_aloud(nats, receiver) -> None:
    """The line that says it took the whole daemon down."""
    actor = {"name": "print", "event": "counts", "url": receiver.url}
    with capture_logs() as logs:
        async with running(config_text(nats.url, events=[{"name": "counts"}], actors=[actor])) as sidecar:
            await sidecar.emit("counts", "1")
            await receiver.wait_for(1)
            async with nats.jetstream() as jetstream:
                await until(lambda: _settled(jetstream))
                await jetstream.delete_consumer("counts", "print")
                await until(lambda: _restored(logs))
                await until(sidecar.is_ready)
                await sidecar.emit("counts", "2")
                await receiver.wait_for(2)
                await until(lambda: _settled(jetstream))
                await jetstream.delete_stream("counts")
                await until(lambda: _restored(logs) >= 2)
                await until(sidecar.is_ready)
                await sidecar.emit("counts", "3")
                await receiver.wait_for(3)
    assert receiver.bodies == [b"1", b"2", b"3"]


def _restored(logs: list[dict[str, object]]) -> int:
    lines = [line for line in logs if "somebody deleted or changed the actor's consumer" in str(line["event"])]
    assert all((line["event_name"], line["actor"]) == ("counts", "print") for line in lines)
    return len(lines)


async def test_a_job_that_outlives_its_stream_does_not_settle_a_message_of_the_new_one(nats, receiver) -> None:
    """Both have the same place, by which JetStream settles: the new one was lost, for its retry never came."""
    release, new = asyncio.Event(), 0

    async def slow(received: Received) -> web.StreamResponse:
        nonlocal new
        if received.body == b"old":
            await release.wait()
            return web.Response()
        new += 1
        return web.Response(status=500 if new == 1 else 200)

    receiver.answer = slow
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.1]}}
    text = config_text(nats.url, events=[{"name": "counts"}], actors=[actor])
    with capture_logs() as logs:
        async with running(text) as sidecar, nats.jetstream() as jetstream:
            await emit_old_and_new(sidecar, receiver, jetstream)
            release.set()
            await receiver.wait_for(3)
            await until(lambda: _settled(jetstream))
    assert receiver.bodies == [b"old", b"new", b"new"]
    assert [line["sequence"] for line in logs if line["event"] == REPLACED] == [1]


async def test_a_message_in_the_place_of_one_whose_job_goes_on_and_fails_has_all_of_its_attempts(
    nats, receiver
) -> None:
    """It waits for the end of that job, and NATS must not hand it over again meanwhile; nor does the failure count for it."""
    release = asyncio.Event()

    async def slow(received: Received) -> web.StreamResponse:
        if received.body == b"old":
            await release.wait()
        return web.Response(status=500)

    receiver.answer = slow
    retry = {"delays": [0.01], "max_attempts": 2}
    actor = {"name": "print", "event": "counts", "url": receiver.url, "ack_wait": 1, "retry": retry}
    text = config_text(nats.url, events=[{"name": "counts"}], actors=[actor])
    async with running(text) as sidecar, nats.jetstream() as jetstream:
        await emit_old_and_new(sidecar, receiver, jetstream)
        await asyncio.sleep(2.5)  # NATS would hand it over again twice
        release.set()
        [(headers, _)] = await until(lambda: dead_letters(nats))
    assert receiver.bodies == [b"old", b"new", b"new"]
    assert [received.headers["walnats-attempt"] for received in receiver.received[1:]] == ["1", "2"]
    assert [each["attempt"] for each in json.loads(headers["walnats-dead-letter-history"])["attempts"]] == [1, 2]


async def emit_old_and_new(sidecar: Sidecar, receiver: Receiver, jetstream: JetStreamContext) -> None:
    """Leave an old message with its actor and a new one in its place: the stream was deleted and made anew between."""
    await sidecar.emit("counts", "old")
    await receiver.wait_for(1)
    await jetstream.delete_stream("counts")
    await until(lambda: _exists(jetstream))
    assert (await sidecar.emit("counts", "new"))["sequence"] == 1
    await until(lambda: _handed_out(jetstream))


async def _exists(jetstream: JetStreamContext) -> bool:
    try:
        await jetstream.consumer_info("counts", "print")
    except NotFoundError:
        return False
    return True


async def _handed_out(jetstream: JetStreamContext) -> bool:
    return (await jetstream.consumer_info("counts", "print")).num_ack_pending == 1


async def _settled(jetstream: JetStreamContext) -> bool:
    return (await jetstream.consumer_info("counts", "print")).num_ack_pending == 0


# ---- not too soon


@contextlib.asynccontextmanager
async def taking(least_s: float) -> AsyncIterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began >= least_s - 0.01


async def missing(parts: Broker) -> None:
    """Find consumer and stream missing, as the pull and the registration do."""
    assert await parts.jetstream.consumer("counts", "print") is None
    assert await parts.jetstream.stream("counts") is None


async def test_a_stream_is_not_made_anew_over_the_remains_of_the_deleted_one(nats, monkeypatch) -> None:
    """The server removed the new one's files with the old one's; it took messages and never acknowledged them."""
    monkeypatch.setattr(module, "STREAM_REMAINS_S", 0.4)
    monkeypatch.setattr(module, "CONSUMER_REMAINS_S", 30)
    async with broker(nats.url) as parts:
        await parts.consumer()
        await parts.jetstream.request("STREAM.DELETE.counts")
        await missing(parts)
        async with taking(0.4):
            both = [parts.jetstream.request("STREAM.CREATE.counts", STREAM) for _ in range(2)]
            await asyncio.gather(*both)
        assert await parts.jetstream.stream("counts")
        # its consumer has no remains of its own, and every moment without it is a moment in which nothing is kept
        await asyncio.wait_for(parts.jetstream.request(CREATE, CONSUMER), 5)


async def test_a_consumer_is_not_made_anew_over_the_remains_of_the_deleted_one(nats, monkeypatch) -> None:
    """The server removed the new one's files with the old one's; it was gone after the next restart."""
    monkeypatch.setattr(module, "CONSUMER_REMAINS_S", 0.4)
    async with broker(nats.url) as parts:
        await parts.consumer()
        await parts.jetstream.request("CONSUMER.DELETE.counts.print")
        assert await parts.jetstream.consumer("counts", "print") is None
        async with taking(0.4):
            await parts.jetstream.request(CREATE, CONSUMER)
        assert await parts.jetstream.consumer("counts", "print")


async def test_what_another_made_is_waited_for_too_once_it_was_seen(nats, monkeypatch) -> None:
    monkeypatch.setattr(module, "STREAM_REMAINS_S", 0.4)
    async with broker(nats.url) as parts, nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"])
        assert await parts.jetstream.stream("counts")
        await jetstream.delete_stream("counts")
        assert await parts.jetstream.stream("counts") is None
        async with taking(0.4):
            await parts.jetstream.request("STREAM.CREATE.counts", STREAM)


async def test_what_was_never_there_or_is_there_is_written_at_once(nats, monkeypatch) -> None:
    monkeypatch.setattr(module, "STREAM_REMAINS_S", 30)
    monkeypatch.setattr(module, "CONSUMER_REMAINS_S", 30)
    async with broker(nats.url) as parts, asyncio.timeout(10):
        await missing(parts)
        await parts.consumer()
        assert await parts.jetstream.consumer("counts", "print")
        await parts.jetstream.request(CREATE, CONSUMER | {"action": "update"})


async def test_a_stop_does_not_wait_for_what_can_not_be_restored(nats, receiver, monkeypatch) -> None:
    """The task that tried for ever to register the consumer again kept the daemon from ending."""
    monkeypatch.setattr(watch, "PERIOD_S", 0.05)
    actor = {"name": "print", "event": "counts", "url": receiver.url}
    parts = {"events": [{"name": "counts"}], "actors": [actor]}
    async with running(config_text(nats.url, **parts)):
        pass
    may_not = {"servers": [nats.url], "manage": {"create": False}}
    async with asyncio.timeout(30), running(config_text("", nats=may_not, **parts)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("counts")
        await until(lambda: _says(sidecar, "nats.manage.create is false"))


async def _says(sidecar: Sidecar, words: str) -> bool:
    _, problems = await sidecar.readiness()
    return any(words in problem for problem in problems.values())
