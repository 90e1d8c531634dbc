"""Somebody limits the deliveries of an actor's consumer: the messages that the server gives up are not forgotten."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from nats.js.errors import NotFoundError

from support.buried import letters
from support.daemon import config_text, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.receiver import Received, Receiver, answers
from support.route import in_stream
from support.waiting import until

ADVISORIES = "walnatsd-max-deliveries"
RESCUED = 'walnatsd_max_deliveries_total{actor="print",event="counts"}'

every_server = pytest.mark.parametrize("version", ["2.10.26", "2.12.8", "newest"])


@contextlib.asynccontextmanager
async def server_of(version: str, folder: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(folder / "nats", binary=None if version == "newest" else binary_of(version)) as server:
        yield server


def config(nats: NatsServer, receiver: Receiver, /, **parts: object) -> str:
    retry = {"delays": [0.3], "jitter": 0, "max_attempts": 5} | parts.pop("retry", {})  # type: ignore[operator]
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": retry}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor], **parts)


async def limit(nats: NatsServer, consumer: str = "print", *, to: int = 1) -> None:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", consumer)
        info.config.max_deliver = to
        await jetstream.add_consumer("counts", info.config)


async def limit_of(nats: NatsServer, consumer: str = "print") -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("counts", consumer)).config.max_deliver


async def all_quiet(nats: NatsServer) -> bool:
    return [await in_stream(nats, stream) for stream in ("counts", "walnatsd", ADVISORIES)] == [0, 0, 0]


async def watched(nats: NatsServer) -> bool:
    """Whether a sidecar waits for advisories."""
    async with nats.jetstream() as jetstream:
        try:
            return bool([each for each in await jetstream.consumers_info(ADVISORIES) if each.num_waiting])
        except NotFoundError:
            return False


@every_server
async def test_a_message_that_the_server_gave_up_reaches_its_actor_and_the_limit_is_lifted(
    version, tmp_path, receiver
) -> None:
    receiver.answer = answers(500)
    async with server_of(version, tmp_path) as nats, running(config(nats, receiver)) as sidecar:
        await until(lambda: watched(nats))
        await limit(nats)
        await sidecar.emit("counts", "7", uid="one", headers={"ce-subject": "s"})
        first, second = await receiver.wait_for(2)
        await until(lambda: all_quiet(nats))
        assert await limit_of(nats) == -1
        assert (await sidecar.metrics())[RESCUED] == 1
    assert (first.attempt, second.attempt) == (1, 2)
    for each in (first, second):
        each.headers.pop("walnats-attempt")
    assert first.headers == second.headers


async def test_what_was_given_up_while_no_sidecar_ran_is_brought_back_by_the_next_one(nats, receiver) -> None:
    async with running(config(nats, receiver)):
        await until(lambda: watched(nats))
    await limit(nats)
    async with nats.jetstream() as jetstream:
        await jetstream.publish("counts", b"7")
        pull = await jetstream.pull_subscribe_bind("print", "counts")
        [message] = await pull.fetch(1)
        await message.nak()
        with contextlib.suppress(TimeoutError):
            await pull.fetch(1, timeout=0.5)  # the server looks only when somebody asks
    assert await in_stream(nats, ADVISORIES) == 1
    async with running(config(nats, receiver)):
        [received] = await receiver.wait_for(1)
        await until(lambda: all_quiet(nats))
    assert received.attempt == 2


async def test_a_message_that_was_given_up_becomes_a_dead_letter_once_its_attempts_are_used_up(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    async with running(config(nats, receiver, retry={"max_attempts": 2})) as sidecar:
        await until(lambda: watched(nats))
        await limit(nats)
        await sidecar.emit("counts", "7")
        [letter] = await until(lambda: letters(sidecar))
        await until(lambda: all_quiet(nats))
    assert letter["attempts"] == 2
    assert [each.attempt for each in receiver.received] == [1, 2]


async def test_where_walnatsd_may_not_update_the_limit_stays_and_the_message_is_rescued(nats, receiver) -> None:
    receiver.answer = answers(500, 500)
    text = config(nats, receiver, nats={"servers": [nats.url], "manage": {"update": False}})
    async with running(text) as sidecar:
        await until(lambda: watched(nats))
        await limit(nats)
        await sidecar.emit("counts", "7")
        await receiver.wait_for(3)
        await until(lambda: all_quiet(nats))
        assert await limit_of(nats) == 1


async def test_a_consumer_that_is_nobodys_actor_is_left_alone(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        await until(lambda: watched(nats))
        async with nats.jetstream() as jetstream:
            pull = await jetstream.pull_subscribe("counts", "foreign", stream="counts")
            await limit(nats, "foreign")
            await sidecar.emit("counts", "7")
            [message] = await pull.fetch(1)
            await message.nak()
            with contextlib.suppress(TimeoutError):
                await pull.fetch(1, timeout=0.5)

            async def handed_back() -> bool:
                [consumer] = await jetstream.consumers_info(ADVISORIES)
                return consumer.num_ack_pending == 1 and await in_stream(nats, ADVISORIES) == 1

            await until(handed_back)
        await receiver.wait_for(1)
        assert await limit_of(nats, "foreign") == 1
        assert await in_stream(nats, "counts") == 1  # it is the foreign consumer's to give up


async def test_two_sidecars_rescue_a_message_once(nats, receiver) -> None:
    async def fail_first(received: Received) -> web.StreamResponse:
        return web.Response(status=500 if received.attempt == 1 else 204)

    receiver.answer = fail_first
    async with running(config(nats, receiver)) as one, running(config(nats, receiver)) as other:
        await until(lambda: watched(nats))
        await limit(nats)
        for number in range(10):
            await one.emit("counts", str(number))
        await receiver.wait_for(20)
        await until(lambda: all_quiet(nats))
        rescued = [(await each.metrics()).get(RESCUED, 0) for each in (one, other)]
    assert len(receiver.received) == 20
    assert 1 <= sum(rescued) <= 10
