"""Each fault of the nats library's publishing and pulling, shown with the plain client, and gone with ours."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client as PlainClient

from support.clients import client, ours
from support.nats_server import NatsServer
from support.proxy import Proxy, proxy
from support.waiting import until
from walnatsd.broker.client import Client
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.publisher import Publisher
from walnatsd.broker.pull import ConsumerGoneError, Pull
from walnatsd.broker.wire import Frame
from walnatsd.model.refusal import Reason, Refusal


@pytest.fixture
async def way(nats: NatsServer) -> AsyncIterator[Proxy]:
    """The way to the server, whose bytes are looked at."""
    async with proxy(nats.port) as started:
        yield started


# ---- publishing


async def test_the_librarys_flush_proves_nothing_about_what_was_sent_before_it(way) -> None:
    async with client(PlainClient, way.url) as made:
        way.requests.clear()
        await made.publish("counts", b"1")
        await made.flush()
        await until(lambda: b"PUB" in way.requests)
    assert way.requests.index(b"PING") < way.requests.index(b"PUB")


async def test_our_flush_comes_after_what_was_sent_before_it(way) -> None:
    async with client(Client, way.url) as made:
        way.requests.clear()
        made.send(b"PUB counts 1\r\n1\r\n")
        await made.flush()
    assert bytes(way.requests) == b"PUB counts 1\r\n1\r\nPING\r\n"


async def test_the_librarys_asynchronous_publish_never_ends_on_an_error(nats) -> None:
    async with client(PlainClient, nats.url) as made:
        jetstream = made.jetstream()
        await jetstream.add_stream(name="counts", subjects=["counts"])
        future = await jetstream.publish_async("counts", b"1", headers={"Nats-Expected-Last-Sequence": "7"})
        await made.flush()
        await jetstream.stream_info("counts")
        assert not future.done()


async def test_our_publisher_ends_on_an_error(nats) -> None:
    async with ours(nats.url) as made:
        await made.wait_connected()
        await JetStream(made).request("STREAM.CREATE.counts", {"name": "counts", "subjects": ["counts"]})
        with pytest.raises(Refusal) as refused:
            await Publisher(made).publish(
                "counts", b"1", {"Nats-Msg-Id": "u", "Nats-Expected-Last-Sequence": "7"}, budget_s=5
            )
        assert refused.value.reason is Reason.SEQUENCE


# ---- pulling


async def a_consumer(nats: NatsServer) -> None:
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
        await jetstream.add_consumer("counts", durable_name="print", ack_policy="explicit", ack_wait=30)


async def ack_pending(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("counts", "print")).num_ack_pending or 0


async def emit(nats: NatsServer, count: int) -> None:
    async with nats.jetstream() as jetstream:
        for number in range(count):
            await jetstream.publish("counts", str(number).encode())


async def test_the_librarys_fetch_drops_messages_when_it_is_cancelled(nats) -> None:
    await a_consumer(nats)
    async with client(PlainClient, nats.url) as made:
        subscription = await made.jetstream().pull_subscribe_bind(consumer="print", stream="counts")
        next_message, waits_for_more = subscription._sub.next_msg, asyncio.Event()

        async def first_message_only(timeout: float) -> object:  # noqa: ASYNC109
            if await ack_pending(nats):
                waits_for_more.set()
                await asyncio.Event().wait()
            return await next_message(timeout)

        subscription._sub.next_msg = first_message_only
        fetching = asyncio.create_task(subscription.fetch(10, timeout=10))
        await until(lambda: waiting_pulls(nats))
        await emit(nats, 1)
        await waits_for_more.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert await ack_pending(nats) == 1  # nobody has it, and nobody gets it before ack_wait is over


async def test_our_pull_hands_over_all_that_the_server_sent_before_it_was_cancelled(nats) -> None:
    await a_consumer(nats)
    received = []
    async with ours(nats.url) as made:
        await made.wait_connected()
        pull = Pull(
            made, JetStream(made), stream="counts", consumer="print",
            capacity=lambda: 10 - len(received), receive=received.append,
        )  # fmt: skip
        pulling = asyncio.create_task(pull.run())
        await emit(nats, 3)
        await until(lambda: ack_pending(nats))
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        await emit(nats, 3)
    assert len(received) == await ack_pending(nats) == 3


async def test_the_librarys_fetch_hides_that_the_consumer_was_deleted(nats) -> None:
    await a_consumer(nats)
    async with client(PlainClient, nats.url) as made:
        subscription = await made.jetstream().pull_subscribe_bind(consumer="print", stream="counts")
        fetching = asyncio.create_task(subscription.fetch(10, timeout=1))
        await until(lambda: waiting_pulls(nats))
        await made.jetstream().delete_consumer("counts", "print")
        assert await fetching == []


async def waiting_pulls(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("counts", "print")).num_waiting or 0


async def test_our_pull_says_that_the_consumer_was_deleted(nats) -> None:
    await a_consumer(nats)
    async with ours(nats.url) as made:
        await made.wait_connected()
        pull = Pull(
            made, JetStream(made), stream="counts", consumer="print",
            capacity=lambda: 10, receive=lambda _delivery: None,
        )  # fmt: skip
        pulling = asyncio.create_task(pull.run())
        await until(lambda: waiting_pulls(nats))
        await JetStream(made).request("CONSUMER.DELETE.counts.print")
        with pytest.raises(ConsumerGoneError, match="print"):
            await asyncio.wait_for(pulling, 5)


# ---- subscriptions


async def test_the_librarys_subscription_drops_what_its_reader_is_too_slow_for(nats) -> None:
    async with client(PlainClient, nats.url) as made:
        subscription = await made.subscribe("burst", pending_msgs_limit=10)
        for number in range(1000):
            await made.publish("burst", str(number).encode())
        await until(lambda: made.stats["in_msgs"] == 1000)
        assert subscription.pending_msgs == 10


async def test_our_inboxes_drop_nothing(nats) -> None:
    async with client(Client, nats.url) as made:
        frames: list[Frame] = []
        await made.attach("burst", frames.append)
        for number in range(1000):
            made.send(f"PUB burst {len(str(number))}\r\n{number}\r\n".encode())
        await until(lambda: len(frames) == 1000)
    assert [int(frame.payload) for frame in frames] == list(range(1000))


async def test_an_exception_in_a_sink_ends_the_connection_loudly_instead_of_the_read_loop_silently(nats) -> None:
    def fail(_frame: Frame) -> None:
        raise ValueError("a fault of ours")

    with pytest.raises(ExceptionGroup) as group:
        async with ours(nats.url) as made:
            await made.wait_connected()
            await made.attach("echo", fail)
            made.publish("echo")
            await asyncio.sleep(60)
    assert group.value.subgroup(ValueError) is not None
