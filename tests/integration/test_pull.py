"""Pulling from a real server: how much is asked for, what ends it, what wakes it up."""

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator

import orjson
import pytest
from structlog.testing import capture_logs

from support.broker import broker, pulling
from support.nats_server import NatsServer
from support.waiting import until
from walnatsd.broker import pull as module
from walnatsd.broker.pull import ConsumerGoneError

NEXT = "$JS.API.CONSUMER.MSG.NEXT.counts.print"


@contextlib.asynccontextmanager
async def requests_seen(nats: NatsServer) -> AsyncIterator[list[int]]:
    """How many messages each pull request asks for."""
    seen: list[int] = []

    async def see(message) -> None:
        seen.append(orjson.loads(message.data)["batch"])

    async with nats.jetstream() as jetstream:
        await jetstream._nc.subscribe(NEXT, cb=see)
        await jetstream._nc.flush()
        yield seen


@pytest.fixture
def hasty(monkeypatch) -> None:
    """Half a second instead of half a minute."""
    monkeypatch.setattr(module, "EXPIRES_S", 0.6)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(module, "SILENCE_S", 0.5)
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.1)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_never_more_is_held_than_there_is_room_for_and_nothing_is_left_behind(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        await parts.store(*numbers(300))
        async with pulling(parts, limit=7) as puller:
            while len(puller.payloads) < 300 or puller.held:
                await until(lambda: puller.held)
                await puller.settle(random.randint(1, len(puller.held)))
        assert puller.most_held == 7
        assert puller.payloads == numbers(300)
        assert await parts.unsettled() == 0


async def test_a_request_is_refilled_when_half_of_it_is_used_up(nats) -> None:
    async with broker(nats.url) as parts, requests_seen(nats) as asked:
        await parts.consumer()
        async with pulling(parts, limit=8) as puller:
            await until(lambda: asked)
            for count in range(1, 5):
                await parts.store(b"%d" % count)
                await until(lambda count=count: len(puller.payloads) == count)
                assert asked == [8]
                await puller.settle()
            await until(lambda: asked == [8, 4])


async def test_a_message_that_comes_to_an_idle_pull_is_there_at_once(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with requests_seen(nats) as asked, pulling(parts) as puller:
            await until(lambda: asked)
            count = len(asked)
            await parts.store(b"1")
            await until(lambda: puller.payloads, timeout_s=2)
            assert len(asked) == count
            assert set(asked) == {4}


async def test_an_idle_pull_believes_the_heartbeats_and_asks_again_when_its_request_expires(nats, monkeypatch) -> None:
    monkeypatch.setattr(module, "EXPIRES_S", 2.0)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(module, "SILENCE_S", 1.5)
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.1)
    async with broker(nats.url) as parts, requests_seen(nats) as asked:
        await parts.consumer()
        with capture_logs() as logs:
            async with pulling(parts) as puller:
                await until(lambda: len(asked) >= 2)
                await parts.store(*numbers(6))
                await until(lambda: len(puller.payloads) == 4)
                await puller.settle(4)
                await until(lambda: len(puller.payloads) == 6)
        assert not [line for line in logs if line["log_level"] != "info"]
        assert puller.most_held == 4


async def test_a_server_that_stands_still_and_goes_on_is_no_silent_stall(nats, hasty) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            await parts.store(b"before")
            await until(lambda: puller.payloads == [b"before"])
            async with nats.frozen():
                with capture_logs() as logs:
                    await until(lambda: any("gone silent" in line["event"] for line in logs))
            await parts.store(b"after")
            await until(lambda: b"after" in puller.payloads)
        assert puller.most_held <= 4


async def test_a_server_that_comes_back_is_pulled_from_again(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            await parts.store(b"before")
            await until(lambda: puller.payloads)
            await puller.settle()
            await nats.kill()
            await until(lambda: not parts.connection.is_connected)
            await nats.start()
            await until(lambda: parts.connection.is_connected)
            await parts.store(b"after")
            await until(lambda: puller.payloads == [b"before", b"after"])


@pytest.mark.parametrize("operation", ["CONSUMER.DELETE.counts.print", "STREAM.DELETE.counts"])
async def test_a_deleted_consumer_ends_the_pull_with_the_reason(nats, operation: str) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            await parts.store(b"1")
            await until(lambda: puller.payloads)
            await parts.jetstream.request(operation)
            with pytest.raises(ConsumerGoneError, match="the consumer 'print' of the stream 'counts' does not exist"):
                await asyncio.wait_for(puller.task, 10)


async def test_a_consumer_that_vanished_while_nats_was_away_ends_the_pull(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            await nats.kill()
            await until(lambda: not parts.connection.is_connected)
            shutil.rmtree(nats.folder / "data")
            await nats.start()
            with pytest.raises(ConsumerGoneError):
                await asyncio.wait_for(puller.task, 10)


async def test_a_pull_that_the_consumer_refuses_is_said_aloud_and_not_repeated_in_a_loop(nats, monkeypatch) -> None:
    """A limit that somebody else set on the consumer was asked against hundreds of times a second, without a word."""
    monkeypatch.setattr(module, "BAD_REQUEST_PAUSE_S", 0.5)
    async with broker(nats.url) as parts, requests_seen(nats) as asked:
        await parts.consumer(max_batch=1)
        await parts.store(b"1")
        with capture_logs() as logs:
            async with pulling(parts) as puller:
                await until(lambda: len(asked) >= 2)
                refusals = [line for line in logs if line["event"] == "NATS refuses a pull"]
                assert refusals[0]["why"] == "Exceeded MaxRequestBatch of 1"
                assert len(refusals) in (1, 2)
                puller.limit = 1
                await until(lambda: puller.payloads)
        assert len(asked) < 6


async def test_a_pull_that_takes_back_what_it_asked_for_gets_nothing_until_there_is_room(nats) -> None:
    async with broker(nats.url) as parts, requests_seen(nats) as asked:
        await parts.consumer()
        async with pulling(parts) as puller:
            await until(lambda: asked)
            puller.limit = 0
            puller.pull.withdraw()
            await until(lambda: parts.waiting_pulls(0))
            await parts.store(b"1")
            assert await parts.ack_pending() == 0
            puller.limit = 4
            puller.pull.wake()
            await until(lambda: puller.payloads == [b"1"])


async def test_a_cancelled_pull_has_handed_over_all_that_the_server_sent(nats) -> None:
    """What is dropped on the way would come back only after ack_wait."""
    async with broker(nats.url) as parts:
        await parts.consumer()
        await parts.store(*numbers(500))
        for _ in range(5):
            async with pulling(parts, limit=500) as puller:
                await until(lambda: puller.payloads)
                assert puller.task is not None
                puller.task.cancel()
                await asyncio.wait([puller.task])
                assert await parts.ack_pending() == len(puller.held)
                while puller.held:
                    await puller.held.pop().nak()
        assert await parts.unsettled() == 500
