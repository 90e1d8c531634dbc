"""Emits that leave together, on a real connection."""

import asyncio
import contextlib
import random

from nats.aio.msg import Msg

from support.broker import Broker, broker
from support.proxy import proxy
from walnatsd.broker.errors import NoReplyError, NotConnectedError


async def ask(parts: Broker, payload: bytes) -> None:
    await parts.connection.ask("counts", payload, in_group=True)


async def test_all_emits_are_stored_and_none_is_counted_for_longer_beside_what_the_library_writes(nats) -> None:
    """Its PINGs and subscriptions take along what is held back: later emits waited for those, each of them."""

    async def call() -> None:
        for _ in range(60):
            await ask(parts, b"1")
            await asyncio.sleep(random.uniform(0, 0.004))

    async def disturb() -> None:
        while True:
            sid = await parts.connection.attach("else", lambda _: None)
            await parts.connection.confirm()
            await parts.connection.detach(sid, flush=False)

    async with broker(nats.url) as parts:
        await parts.consumer()
        disturbing = asyncio.create_task(disturb())
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(call())
        disturbing.cancel()
        await asyncio.wait([disturbing])
        assert await parts.unsettled() == 8 * 60
        group = parts.connection._client.group
        for _ in range(2):  # the first one may find that more are expected
            await ask(parts, b"1")
        assert (group._held, group._unanswered, group._timer) == (0, 0, None)


async def test_what_is_held_back_leaves_in_order_with_what_is_not(nats) -> None:
    seen: list[bytes] = []

    async def note(message: Msg) -> None:
        seen.append(message.data)

    async with broker(nats.url) as parts, nats.jetstream() as jetstream:
        await parts.consumer()
        await jetstream._nc.subscribe("counts", cb=note)
        await jetstream._nc.flush()
        asked = [parts.connection.ask("counts", b"%d" % number, in_group=True) for number in range(5)]
        parts.connection.publish("counts", b"5")
        asked += [parts.connection.ask("counts", b"%d" % number, in_group=True) for number in range(6, 9)]
        await asyncio.gather(*asked)
        await jetstream._nc.flush()
    assert seen == [b"%d" % number for number in range(9)]


async def test_a_connection_that_breaks_tells_those_that_are_held_back_and_none_of_them_is_sent_later(nats) -> None:
    async with proxy(nats.port) as way, broker(way.url) as parts:
        await parts.consumer()
        way.pause()
        asked = [parts.connection.ask("counts", b"1", in_group=True) for _ in range(3)]
        await way.cut()
        way.resume()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in answers] == [NoReplyError] * 3
        await parts.connection.wait_connected()
        with contextlib.suppress(NotConnectedError):
            await ask(parts, b"2")
        assert await parts.unsettled() == 1
