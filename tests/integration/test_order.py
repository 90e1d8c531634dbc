"""Order by key on a real server: what holds, and what each key does to the others."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator

import pytest

from support.daemon import config_text, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.order import Recorder, Seen, emit_all, interleaved, recorder
from support.waiting import until
from walnatsd.dispatch import order

PAUSE = "$JS.API.CONSUMER.PAUSE.parcels.ship"


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


async def ack_pending(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("parcels", "ship")).num_ack_pending or 0


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
        assert list(dict.fromkeys(seen.number for seen in record.of_key(key))) == list(range(8))
    assert any(seen.attempt == 2 for seen in record.attempts)


async def test_keys_go_in_parallel_and_a_slow_one_holds_back_only_itself(nats) -> None:
    release = asyncio.Event()

    async def answer(seen: Seen) -> int:
        if seen.key == "k0":
            await release.wait()
        return 204

    messages = interleaved(4, 20)
    async with recorder(answer) as record, running(ordered(nats, record)):
        await emit_all(nats, "parcels", messages)
        await until(lambda: len(record.done()) == 60)
        assert [seen.number for seen in record.of_key("k0")] == [0]
        release.set()
        await until(lambda: len(record.done()) == 80)
    record.check()


async def test_a_key_that_is_retried_holds_back_only_itself(nats) -> None:
    async def answer(seen: Seen) -> int:
        return 500 if seen.key == "k0" and seen.number == 0 and seen.attempt < 3 else 204

    async with recorder(answer) as record, running(ordered(nats, record, retry={"delays": [0.4], "jitter": 0})):
        await emit_all(nats, "parcels", interleaved(2, 5))
        await until(lambda: len(record.done()) == 10)
        await until(lambda: settled(nats))
    record.check()
    numbers = [(seen.key, seen.number, seen.attempt) for seen in record.attempts]
    assert numbers.index(("k1", 4, 1)) < numbers.index(("k0", 0, 2))
    first, second, third = [seen for seen in record.of_key("k0") if seen.number == 0]
    assert second.begin - first.begin > 0.39
    assert third.begin - second.begin > 0.39
    assert third.attempt == 3


async def test_a_delayed_message_holds_back_only_what_follows_it_in_its_key(nats) -> None:
    async with recorder() as record, running(ordered(nats, record)):
        due = time.time() + 1.0
        async with nats.jetstream() as jetstream:
            for key, number in interleaved(2, 3):
                headers = {"Walnats-Delay": str(due)} if (key, number) == ("k0", 1) else None
                await jetstream.publish("parcels", json.dumps({"key": key, "n": number}).encode(), headers=headers)
        await until(lambda: len(record.done()) == 6)
    record.check()
    assert [(seen.key, seen.number) for seen in record.attempts[-2:]] == [("k0", 1), ("k0", 2)]
    assert {seen.attempt for seen in record.attempts} == {1}
    assert record.attempts[-2].begin - record.attempts[0].begin > 0.5


async def test_messages_without_a_key_wait_for_nobody(nats) -> None:
    release = asyncio.Event()

    async def answer(seen: Seen) -> int:
        if seen.number == 0:
            await release.wait()
        return 204

    async with recorder(answer) as record, running(ordered(nats, record, order_by="/other")):
        await emit_all(nats, "parcels", interleaved(1, 4))
        await until(lambda: len(record.done()) == 3)
        release.set()
        await until(lambda: len(record.done()) == 4)


async def test_the_key_can_be_a_header(nats) -> None:
    async with recorder() as record, running(ordered(nats, record, order_by={"header": "CE-PartitionKey"})) as sidecar:
        for number in range(12):
            payload = json.dumps({"key": str(number % 2), "n": number // 2})
            await sidecar.emit("parcels", payload, headers={"ce-partitionkey": str(number % 2)})
        await until(lambda: len(record.done()) == 12)
        await until(lambda: settled(nats))
    record.check()


async def test_attempts_go_on_counting_in_the_sidecar_that_follows(nats) -> None:
    refuse = True

    async def answer(_seen: Seen) -> int:
        return 500 if refuse else 204

    async with recorder(answer) as record:
        async with running(ordered(nats, record)):
            await emit_all(nats, "parcels", interleaved(1, 2))
            await until(lambda: len(record.attempts) == 3)
        last = record.attempts[-1].attempt
        refuse = False
        async with running(ordered(nats, record)):
            await until(lambda: len(record.done()) == 2)
            await until(lambda: settled(nats))
    record.check()
    assert [seen.attempt for seen in record.attempts[:3]] == [1, 2, 3]
    repeated = next(seen for seen in record.attempts if seen.status == 204)
    assert repeated.number == 0
    assert repeated.attempt > last


async def test_a_410_hands_back_what_waits_and_all_goes_on_in_order_after_the_resume(nats) -> None:
    gone = True

    async def answer(seen: Seen) -> int:
        return 410 if gone and seen.number == 1 else 204

    async with recorder(answer) as record, running(ordered(nats, record)):
        await emit_all(nats, "parcels", interleaved(2, 6))
        async with nats.jetstream() as jetstream:
            await until(lambda: _is_paused(jetstream))
            before = len(record.attempts)
            gone = False
            await jetstream._api_request(PAUSE, b"{}")
        await until(lambda: len(record.done()) == 12)
        await until(lambda: settled(nats))
    record.attempts[:] = [seen for seen in record.attempts if seen.status != 410]
    record.check()
    assert before < 6


async def _is_paused(jetstream) -> bool:
    return bool((await jetstream._api_request("$JS.API.CONSUMER.INFO.parcels.ship", b"")).get("paused"))


async def test_a_message_that_is_deleted_while_it_waits_for_its_retry_does_not_block_its_key(nats, monkeypatch) -> None:
    monkeypatch.setattr(order, "LONGEST_WAY_S", 0.5)

    async def answer(seen: Seen) -> int:
        if seen.number == 0:
            async with nats.jetstream() as jetstream:
                await jetstream.delete_msg("parcels", seen.sequence)
            return 500
        return 204

    async with recorder(answer) as record, running(ordered(nats, record)):
        await emit_all(nats, "parcels", interleaved(1, 4))
        await until(lambda: {number for _, number in record.done()} >= {1, 2, 3})


async def test_a_quiet_actor_stays_pinned(nats) -> None:
    async with recorder() as record, running(ordered(nats, record, ack_wait=0.5)) as sidecar:
        for number in range(2):
            await emit_all(nats, "parcels", [("k", number)])
            await until(lambda number=number: len(record.done()) == number + 1)
            await asyncio.sleep(1.5)  # longer than the pin's timeout
        reigns = (await sidecar.metrics())['walnatsd_order_reigns_total{actor="ship",event="parcels"}']
    assert reigns == 1


async def test_order_survives_a_restart_of_nats(nats) -> None:
    async def answer(seen: Seen) -> int:
        await asyncio.sleep(0.005)
        return 500 if seen.attempt == 1 and seen.number % 5 == 0 else 204

    messages = interleaved(4, 50)
    async with recorder(answer) as record, running(ordered(nats, record, ack_wait=1)):
        await emit_all(nats, "parcels", messages)
        await until(lambda: len(record.done()) > 40)
        await nats.stop()
        await nats.start()
        await until(lambda: len(record.done()) == len(messages), timeout_s=20)
        await until(lambda: settled(nats))
    record.check()


async def test_an_older_server_hands_over_one_message_at_a_time_to_all_sidecars_together(tmp_path) -> None:
    async with nats_server(tmp_path / "nats", binary=binary_of("2.10.26")) as nats:

        async def answer(seen: Seen) -> int:
            await asyncio.sleep(0.002)
            return 500 if seen.attempt == 1 and seen.number % 4 == 1 else 204

        async with recorder(answer) as record:
            text = ordered(nats, record, retry={"delays": [0.05]})
            async with running(text), running(text):
                await emit_all(nats, "parcels", interleaved(3, 12))
                await until(lambda: len(record.done()) == 36)
                await until(lambda: settled(nats))
    record.check()
    assert record.receiver.most_in_progress == 1


async def test_a_replayed_dead_letter_is_alone_of_its_key(nats) -> None:
    release = asyncio.Event()

    async def answer(seen: Seen) -> int:
        if seen.number == 1:
            await release.wait()
        return 422 if len(record.attempts) == 1 else 204

    async with recorder(answer) as record, running(ordered(nats, record)) as sidecar:
        await emit_all(nats, "parcels", [("k", 0), ("k", 1), ("other", 0)])
        await until(lambda: len(record.attempts) == 3)
        async with sidecar.session.post(f"http://{sidecar.admin}/admin/v1/dead-letters/1/replay") as response:
            assert response.status == 200, await response.text()

        async def held() -> float:
            return (await sidecar.metrics())['walnatsd_deliveries_in_flight{actor="ship",event="parcels"}']

        await until(lambda: _is(held, 2))  # it has come, and waits for its key
        assert [seen.number for seen in record.of_key("k")] == [0, 1]
        release.set()
        await until(lambda: len(record.of_key("k")) == 3)
    record.check()
    assert record.of_key("k")[-1].number == 0


async def _is(read, value: float) -> bool:
    return await read() == value


async def test_what_waits_is_pulsed_even_where_the_actor_wants_no_pulse(nats) -> None:
    async def answer(seen: Seen) -> int:
        return 500 if seen.number == 0 and seen.attempt == 1 else 204

    options = {"pulse": False, "ack_wait": 0.5, "job_timeout": 0.4, "retry": {"delays": [1.5], "jitter": 0}}
    async with recorder(answer) as record, running(ordered(nats, record, **options)):
        await emit_all(nats, "parcels", interleaved(1, 4))
        await until(lambda: len(record.done()) == 4)
        await until(lambda: settled(nats))
        async with nats.jetstream() as jetstream:
            info = await jetstream.consumer_info("parcels", "ship")
    record.check()
    assert info.delivered.consumer_seq == 5  # four messages, one of them twice


async def test_a_pause_is_obeyed_by_what_waits_in_hand_too(tmp_path) -> None:
    async def answer(_seen: Seen) -> int:
        await asyncio.sleep(0.1)
        return 204

    messages = [("k", number) for number in range(30)]
    async with (
        nats_server(tmp_path / "nats") as nats,
        recorder(answer) as record,
        running(ordered(nats, record)) as sidecar,
    ):
        await emit_all(nats, "parcels", messages)
        await until(record.done)
        url = f"http://{sidecar.admin}/admin/v1/actors/parcels/ship/"
        async with sidecar.session.post(url + "pause") as response:
            assert response.status == 200
        seen = len(record.attempts)
        await asyncio.sleep(0.6)  # long enough for what it may not do
        assert len(record.attempts) <= seen + 1
        async with sidecar.session.post(url + "resume") as response:
            assert response.status == 200
        await until(lambda: len(record.done()) == len(messages), timeout_s=30)
    record.check()
