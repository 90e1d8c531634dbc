"""Settling a delivery: one word, repeated until the server confirms it."""

import asyncio
import signal
from collections import defaultdict

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from support.broker import Broker, Puller, broker, pulling
from support.daemon import config_text, process, running
from support.proxy import proxy
from support.receiver import Received
from support.waiting import until
from walnatsd.broker import delivery as module
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.wire import Frame


async def one(parts: Broker, puller: Puller) -> Delivery:
    await parts.store(b"1")
    return await until(lambda: puller.held and puller.held[-1])


async def test_a_message_that_is_handed_back_comes_again(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            delivery = await one(parts, puller)
            assert delivery.deliveries == 1
            await delivery.nak()
            again = await until(lambda: len(puller.held) == 2 and puller.held[1], timeout_s=5)
            assert again.deliveries == 2
            assert again.message == delivery.message


async def test_a_pulse_after_the_nak_does_not_undo_its_delay(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer(ack_wait=30_000_000_000)
        async with pulling(parts) as puller:
            delivery = await one(parts, puller)
            await delivery.nak(0.1)
            delivery.progress()
            await until(lambda: len(puller.held) == 2, timeout_s=10)


async def test_a_delay_that_the_server_can_not_express_is_not_none_at_all(nats) -> None:
    """JetStream parses nanoseconds into 64 bits; what does not fit came back at once, thousands of times a second."""
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            delivery = await one(parts, puller)
            await delivery.nak(1e12)
            await parts.store(b"2")
            await until(lambda: b"2" in puller.payloads)
            assert puller.payloads == [b"1", b"2"]


@pytest.mark.parametrize("together", [False, True])
async def test_an_ack_that_is_under_way_settles_the_hand_over_that_comes_meanwhile(nats, together: bool) -> None:
    """JetStream settles by the place in the stream, so a newer hand-over needs no ack of its own beside the older one's."""
    async with broker(nats.url) as parts:
        await parts.consumer(ack_wait=200_000_000)
        async with pulling(parts, limit=4 if together else 2) as puller:
            await parts.store(*([b"1", b"2"] if together else [b"1"]))
            await until(lambda: len(puller.held) == puller.limit)  # nobody pulses
            older, newer = puller.held[: puller.limit // 2], puller.held[puller.limit // 2 :]
            assert [(each.key, each.deliveries) for each in newer] == [(each.key, 2) for each in older]
            assert not await Delivery.ack_all(older)
            assert await parts.unsettled() == 0
            assert not await Delivery.ack_all(newer), "to say it twice is harmless"


async def test_a_message_that_is_given_up_does_not_come_again_and_the_reason_is_told(nats) -> None:
    async with broker(nats.url) as parts, nats.jetstream() as jetstream:
        advisories = await jetstream._nc.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.counts.print")
        await jetstream._nc.flush()
        await parts.consumer()
        async with pulling(parts) as puller:
            delivery = await one(parts, puller)
            await delivery.term("400: no such parcel, Füße")
            assert await parts.unsettled() == 0
        advisory = await advisories.next_msg(timeout=5)
        assert b"400: no such parcel, F??e" in advisory.data


async def test_an_ack_waits_for_nats_to_come_back(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            delivery = await one(parts, puller)
            await nats.stop()  # killed, it might forget that it handed it over
            await until(lambda: not parts.connection.is_connected)
            ack = asyncio.create_task(delivery.ack())
            await asyncio.sleep(0.1)
            assert not ack.done()
            await nats.start()
            await asyncio.wait_for(ack, 15)
            assert await parts.unsettled() == 0


async def test_an_ack_waits_for_a_consumer_without_a_leader(nats, monkeypatch) -> None:
    """Nobody listens while a leader is elected, seconds long; after a quarter of one the ack was given up."""
    monkeypatch.setattr(module, "SETTLE_PAUSE_S", 0.05)
    async with broker(nats.url) as parts:
        await parts.consumer()
        # the subject of a domain that this server does not have: the consumer is there, and nobody listens
        reply = "$JS.ACK.hub.A5oZ4Hcs.counts.print.1.1.1.1700000000000000000.0.x"
        delivery = Delivery.of_event(parts.connection, parts.jetstream, "counts", Frame("counts", reply, b"1", b""))
        ack = asyncio.create_task(delivery.ack())
        await asyncio.sleep(0.5)
        assert not ack.done()
        async with nats.jetstream() as jetstream:
            words: list[bytes] = []

            async def confirm(message) -> None:
                words.append(message.data)
                await message.respond(b"")

            await jetstream._nc.subscribe("$JS.ACK.hub.>", cb=confirm)
            await asyncio.wait_for(ack, 10)
            assert words == [b"+ACK"]


async def test_an_ack_for_a_deleted_consumer_ends_and_says_so(nats, monkeypatch) -> None:
    monkeypatch.setattr(module, "SETTLE_PAUSE_S", 0.05)
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            delivery = await one(parts, puller)
        await parts.jetstream.request("CONSUMER.DELETE.counts.print")
        with capture_logs() as logs:
            await asyncio.wait_for(delivery.ack(), 10)
    assert [line["consumer"] for line in logs if "the consumer is gone" in line["event"]] == ["print"]


async def test_acks_that_are_said_together_are_each_confirmed(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts, limit=50) as puller:
            await asyncio.gather(*(parts.store(b"%d" % number) for number in range(50)))
            await until(lambda: len(puller.held) == 50)
            await Delivery.ack_all(puller.held)
            assert await parts.unsettled() == 0
            assert parts.connection._replies.waiting == 0


async def test_of_acks_that_are_said_together_those_are_left_out_whose_messages_have_lost_their_place(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            await parts.store(b"1", b"2", b"3")
            held = await until(lambda: len(puller.held) == 3 and puller.held)
            held[1].is_replaced = True
            with capture_logs() as logs:
                assert not await Delivery.ack_all(held)
            assert await parts.unsettled() == 1
    assert [line["sequence"] for line in logs if line["event"] == module.REPLACED] == [2]


async def test_acks_that_are_said_together_wait_for_nats_to_come_back(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            await asyncio.gather(*(parts.store(b"%d" % number) for number in range(4)))
            await until(lambda: len(puller.held) == 4)
            await nats.stop()  # killed, it might forget that it handed them over
            await until(lambda: not parts.connection.is_connected)
            ack = asyncio.create_task(Delivery.ack_all(puller.held))
            await asyncio.sleep(0.1)
            assert not ack.done()
            await nats.start()
            await asyncio.wait_for(ack, 15)
            assert await parts.unsettled() == 0


async def test_one_confirmation_that_is_missing_has_each_ack_said_again(nats, monkeypatch) -> None:
    monkeypatch.setattr(module, "SETTLE_PAUSE_S", 0.05)
    async with broker(nats.url) as parts:
        await parts.consumer()
        async with pulling(parts) as puller:
            await parts.store(b"1")
            await until(lambda: puller.held)
            stray = Frame("counts", "$JS.ACK.hub.A5oZ4Hcs.counts.print.1.1.1.1700000000000000000.0.x", b"1", b"")
            nobodys = Delivery.of_event(parts.connection, parts.jetstream, "counts", stray)
            ack = asyncio.create_task(Delivery.ack_all([*puller.held, nobodys]))
            await until(lambda: _unsettled(nats, 0))
            assert not ack.done()
            async with nats.jetstream() as jetstream:

                async def confirm(message) -> None:
                    await message.respond(b"")

                await jetstream._nc.subscribe("$JS.ACK.hub.>", cb=confirm)
                await asyncio.wait_for(ack, 10)


# ---- in the daemon


async def test_a_stop_that_nats_does_not_answer_ends_with_the_acks_said_and_no_error(nats, receiver, tmp_path) -> None:
    release = asyncio.Event()

    async def hold(_received: Received) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    receiver.answer = hold
    async with proxy(nats.port) as way, nats.jetstream() as jetstream:
        text = config_text(
            way.url, events=[{"name": "counts"}], shutdown_timeout=2,
            actors=[{"name": "print", "event": "counts", "url": receiver.url}],
        )  # fmt: skip
        async with process(tmp_path, text) as daemon:
            await asyncio.gather(*(jetstream.publish("counts", b"%d" % number) for number in range(4)))
            await receiver.wait_for(4)
            way.hold_answers_after(b"+ACK")
            release.set()
            await until(lambda: _unsettled(nats, 0))
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 0
            assert not [line for line in daemon.lines if line["level"] == "error"]
        assert way.requests.count(b"+ACK") >= 8, "they were not said once more"


async def test_a_retry_without_delay_comes_at_once_and_not_after_ack_wait(nats, receiver) -> None:
    """Redelivered before the nak was confirmed, it was taken for a duplicate and lay until ack_wait had passed."""

    async def fail_twice(received: Received) -> web.StreamResponse:
        return web.Response(status=500 if received.attempt < 3 else 200)

    receiver.answer = fail_twice
    actor = {
        "name": "print", "event": "counts", "url": receiver.url, "ack_wait": 60, "retry": {"delays": [0], "jitter": 0},
    }  # fmt: skip
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=[actor])) as sidecar:
        await asyncio.gather(*(sidecar.emit("counts", str(number)) for number in range(60)))
        await receiver.wait_for(180, timeout_s=20)
        await until(lambda: _unsettled(nats, 0))
    attempts = defaultdict(list)
    for received in receiver.received:
        attempts[received.body].append(received.attempt)
    assert list(attempts.values()) == [[1, 2, 3]] * 60


async def _unsettled(nats, count: int) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
        return info.num_pending + info.num_ack_pending == count


async def test_every_hand_over_is_settled_with_just_one_word(nats, receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        number = int(received.body)
        return web.Response(status=400 if number % 5 == 0 else 500 if number % 3 == received.attempt else 200)

    receiver.answer = answer
    words = defaultdict(list)

    async def overhear(message) -> None:
        if message.data != b"+WPI":
            words[message.subject].append(message.data.split(b" ")[0])

    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.01]}}
    text = config_text(nats.url, events=[{"name": "counts"}], actors=[actor])
    async with nats.jetstream() as jetstream:
        observer = jetstream._nc
        async with running(text) as sidecar:
            await observer.subscribe("$JS.ACK.counts.print.>", cb=overhear)
            await observer.flush()
            await asyncio.gather(*(sidecar.emit("counts", str(number)) for number in range(60)))
            await until(lambda: _unsettled(nats, 0))
        await observer.flush()
    assert {len(each) for each in words.values()} == {1}
    said = [word for each in words.values() for word in each]
    assert (said.count(b"+TERM"), said.count(b"+ACK")) == (12, 48)
    assert len(said) == len(receiver.received)
