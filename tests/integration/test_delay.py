"""The header `Walnats-Delay`, whoever set it: nobody handles the message before, and waiting is no attempt."""

import time

import pytest
from aiohttp import web

from support.daemon import config_text, running
from support.letters import dead_letters, unsettled
from support.nats_server import NatsServer
from support.receiver import Received, Receiver, answers
from support.waiting import until


def config(nats: NatsServer, receiver: Receiver, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


def delayed_until(seconds: float) -> dict[str, str]:
    return {"Walnats-Delay": str(seconds)}


async def settled(nats: NatsServer) -> bool:
    return await unsettled(nats) == 0


async def deliveries(nats: NatsServer) -> int:
    """How often the server handed out a message, all of the consumer's together."""
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("counts", "print")).delivered.consumer_seq


def times_of(receiver: Receiver) -> list[tuple[bytes, float]]:
    """Bodies and times of arrival, from now on."""
    arrived: list[tuple[bytes, float]] = []

    async def note(received: Received) -> web.StreamResponse:
        arrived.append((received.body, time.time()))
        return web.Response()

    receiver.answer = note
    return arrived


async def test_a_delayed_message_comes_not_before_its_time_as_the_first_attempt(nats, receiver) -> None:
    arrived = times_of(receiver)
    async with nats.jetstream() as jetstream, running(config(nats, receiver, ack_wait=0.3)):
        moment = time.time() + 1.2
        await jetstream.publish("counts", b"7", headers=delayed_until(moment))
        await receiver.wait_for(1)
        await until(lambda: settled(nats))
    [(_, at)] = arrived
    assert at >= moment - 0.001
    assert receiver.received[0].attempt == 1
    assert "walnats-delay" not in receiver.received[0].headers
    assert await deliveries(nats) <= 2  # ack_wait plays no part while it waits


@pytest.mark.parametrize("seconds", ["0", "-5", "-1e300", "1e-300", "past"])
async def test_a_time_that_has_passed_is_no_delay(nats, receiver, seconds: str) -> None:
    async with nats.jetstream() as jetstream, running(config(nats, receiver)):
        value = str(time.time() - 1) if seconds == "past" else seconds
        await jetstream.publish("counts", b"7", headers={"Walnats-Delay": value})
        [received] = await receiver.wait_for(1)
        await until(lambda: settled(nats))
    assert received.attempt == 1
    assert await deliveries(nats) == 1


async def test_delayed_messages_hold_back_neither_others_nor_a_slot(nats, receiver) -> None:
    async with nats.jetstream() as jetstream, running(config(nats, receiver, max_jobs=1)) as sidecar:
        for number in range(20):
            await jetstream.publish("counts", b"late %d" % number, headers=delayed_until(time.time() + 60))
        for number in range(20):
            await sidecar.emit("counts", f"soon {number}")
        await receiver.wait_for(20)
        await until(lambda: _left(nats, 20))
    assert sorted(receiver.bodies) == sorted(b"soon %d" % number for number in range(20))


async def test_the_delay_is_honoured_on_every_delivery(nats, receiver) -> None:
    """Somebody else may have handed the message back without a delay."""
    arrived = times_of(receiver)
    async with nats.jetstream() as jetstream:
        async with running(config(nats, receiver)):
            pass
        moment = time.time() + 1.5
        await jetstream.publish("counts", b"7", headers=delayed_until(moment))
        other = await jetstream.pull_subscribe_bind("print", "counts")
        for _ in range(3):
            [message] = await other.fetch(1)
            await message.nak()
        await other.unsubscribe()
        async with running(config(nats, receiver)):
            await receiver.wait_for(1)
            await until(lambda: settled(nats))
    [(_, at)] = arrived
    assert at >= moment - 0.001


async def test_waiting_does_not_use_up_attempts(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    async with nats.jetstream() as jetstream, running(config(nats, receiver, retry={"delays": [0], "max_attempts": 2})):
        await jetstream.publish("counts", b"7", headers=delayed_until(time.time() + 0.3))
        await until(lambda: settled(nats))
    assert [received.attempt for received in receiver.received] == [1, 2]
    [(headers, _)] = await dead_letters(nats)
    assert headers["walnats-dead-letter-attempts"] == "2"


@pytest.mark.parametrize("seconds", ["1e12", "1e300", "4000000000"])
async def test_a_time_far_ahead_is_waited_for_in_peace(nats, receiver, seconds: str) -> None:
    """A delay that does not fit the server's 64 bits was none: the message came back thousands of times a second."""
    async with nats.jetstream() as jetstream, running(config(nats, receiver)) as sidecar:
        await jetstream.publish("counts", b"late", headers={"Walnats-Delay": seconds})
        await sidecar.emit("counts", "soon")
        await until(lambda: _left(nats, 0))  # parked, so it stands in nobody's way
        assert await deliveries(nats) == 2
        assert (await jetstream.stream_info("walnatsd")).state.messages == 1
    assert receiver.bodies == [b"soon"]
    assert await dead_letters(nats) == []


async def _left(nats: NatsServer, count: int) -> bool:
    return await unsettled(nats) == count
