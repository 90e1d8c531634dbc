"""Order by key on a real server: what holds, and what each key does to the others."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from support.daemon import config_text, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.order import Recorder, Seen, emit_all, interleaved, recorder
from support.waiting import until


@pytest.fixture(params=["newest", "2.12.8", "2.11.11", "2.10.26"])
async def any_nats(request, tmp_path) -> AsyncIterator[NatsServer]:
    """A server of each kind: the last one has no priority groups."""
    binary = None if request.param == "newest" else binary_of(request.param)
    async with nats_server(tmp_path / "nats", binary=binary) as server:
        yield server


def ordered(nats: NatsServer, record: Recorder, **options: object) -> str:
    actor = {
        "name": "ship", "event": "parcels", "url": record.url, "order_by": "/key", "ack_wait": 2,
        "retry": {"delays": [0.05], "jitter": 0.5},
    }  # fmt: skip
    return config_text(nats.url, events=[{"name": "parcels"}], actors=[actor | options])


async def settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("parcels", "ship")
    return not info.num_ack_pending and not info.num_pending


async def config_of(nats: NatsServer) -> dict[str, object]:
    async with nats.jetstream() as jetstream:
        info = await jetstream._api_request("$JS.API.CONSUMER.INFO.parcels.ship", b"")
    return info["config"]


async def test_keys_keep_their_order_through_retries_and_dead_letters(any_nats) -> None:
    dice = random.Random(7)

    async def answer(seen: Seen) -> int:
        await asyncio.sleep(dice.random() * 0.005)
        if seen.number % 7 == 3:
            return 422
        return 500 if dice.random() < 0.3 else 204

    messages = interleaved(5, 8)
    async with recorder(answer) as record, running(ordered(any_nats, record)):
        await emit_all(any_nats, "parcels", messages)
        await until(lambda: len(record.done()) == len(messages))
        await until(lambda: settled(any_nats))
    record.check()
    for key in {key for key, _ in messages}:
        firsts = list(dict.fromkeys(seen.number for seen in record.of_key(key)))
        assert firsts == list(range(8))
    assert any(seen.attempt > 1 for seen in record.attempts)
