"""What is due is stored in the stream of its event, whatever happens meanwhile, and what can't be stored waits."""

import asyncio
import signal
import time
from collections import Counter
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from structlog.testing import capture_logs

from support.cluster import cluster
from support.daemon import Sidecar, config_text, process, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.route import in_stream
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.broker import schedules
from walnatsd.emit import due

IMPATIENT = "from walnatsd.broker import schedules; schedules.DUE_ACK_WAIT_S = 1.0"
"""What a killed sidecar had in its hands comes back soon."""
ACTOR = {"name": "print", "event": "counts"}
STUCK = 'walnatsd_due_total{event="%s",outcome="%s"}'


def config(nats: NatsServer, *events: str, **parts: Any) -> str:
    return config_text(nats.url, events=[{"name": event} for event in events or ("counts",)], **parts)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried again in this process is tried again soon."""
    monkeypatch.setattr(due, "STORE_BUDGET_S", 0.3)
    monkeypatch.setattr(due, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(due, "LONGEST_PAUSE_S", 0.4)
    monkeypatch.setattr(due, "WATCH_INTERVAL_S", 0.1)


async def emit_all(sidecar: Sidecar, count: int, *, delay: str, event: str = "counts") -> set[str]:
    """Emit so many delayed messages; give their uids."""
    uids = [f"u{number}" for number in range(count)]
    answers = await asyncio.gather(*(sidecar.try_emit(event, uid, uid=uid, delay=delay) for uid in uids))
    assert {status for status, _ in answers} == {202}
    return set(uids)


async def stored_uids(nats: NatsServer, stream: str = "counts") -> Counter[str]:
    return Counter(headers["Nats-Msg-Id"] for _, headers in await stored(nats, stream))


async def counted(sidecar: Sidecar, name: str) -> float:
    return (await sidecar.metrics()).get(name, 0)


async def in_hand(nats: NatsServer) -> int:
    """How many messages that are due somebody has in hand, or has put off."""
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("walnatsd", "due")).num_ack_pending or 0


# ---- whoever lives


async def test_what_comes_due_while_no_sidecar_lives_is_stored_by_the_next_one(nats) -> None:
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        await emit_all(sidecar, 3, delay="3s")  # time enough to stop before that
    await until(lambda: _is_due(nats, 3))
    assert await stored(nats) == []
    async with running(config(nats)):
        await until(lambda: _holds(nats, 3))
    assert await in_stream(nats) == 0


async def test_an_event_that_the_sidecar_does_not_declare_is_served_as_well(nats) -> None:
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        await sidecar.try_emit("counts", "7", uid="one", delay="3s", headers={"ce-type": "count"})
    async with running(config(nats, "others")) as sidecar:
        await until(lambda: _holds(nats, 1))
        await until(lambda: _is_counted(sidecar, STUCK % ("(unknown)", "stored"), 1))
    [(payload, headers)] = await stored(nats)
    assert payload == b"7"
    assert headers == {"Nats-Msg-Id": "one", "Content-Type": "application/json", "ce-type": "count",
                       "ce-datacontenttype": "application/json"}  # fmt: skip


async def test_sidecars_share_the_work_and_store_each_message_once(nats) -> None:
    async with running(config(nats)) as one, running(config(nats)) as two:
        await keep_messages(nats)
        uids = await emit_all(one, 400, delay="1s")
        await until(lambda: _holds(nats, 400))
        await until(lambda: _nothing_waits(nats))
        shares = [await counted(sidecar, STUCK % ("counts", "stored")) for sidecar in (one, two)]
    assert await stored_uids(nats) == Counter(uids)
    assert sum(shares) == 400
    assert min(shares) > 0


async def test_a_sidecar_killed_between_storing_and_acknowledging_costs_nothing(nats, tmp_path) -> None:
    """The next one stores it again, and the uid tells the server that it has it already."""
    never = (
        f"{IMPATIENT}\nimport asyncio\nfrom walnatsd.broker.delivery import Delivery\n"
        "async def ack(self):\n    await asyncio.sleep(3600)\nDelivery.ack = ack"
    )
    async with process(tmp_path / "one", config(nats), prelude=never) as one:
        assert one.sidecar is not None
        await keep_messages(nats)
        uids = await emit_all(one.sidecar, 30, delay="200ms")
        await until(lambda: _holds(nats, 30))
        assert await in_hand(nats) == 30
        await one.end(signal.SIGKILL)
    async with process(tmp_path / "two", config(nats), prelude=IMPATIENT) as two:
        await until(lambda: _nothing_waits(nats))
        assert two.sidecar is not None
        assert await counted(two.sidecar, STUCK % ("counts", "duplicate")) == 30
    assert await stored_uids(nats) == Counter(uids)


async def test_sidecars_that_are_killed_while_messages_come_due_lose_none(nats, tmp_path) -> None:
    async with process(tmp_path / "one", config(nats), prelude=IMPATIENT) as one:
        assert one.sidecar is not None
        await keep_messages(nats)
        uids = set()
        for number in range(300):
            uids.add(uid := f"u{number}")
            await one.sidecar.try_emit("counts", uid, uid=uid, delay=f"{300 + 5 * number}ms")
        for _ in range(3):
            before = await in_stream(nats, "counts")
            await one.end(signal.SIGKILL)
            await one.start()
            await until(lambda before=before: _holds_more(nats, min(before, 299)))
        await until(lambda: _holds(nats, 300))
        await until(lambda: _nothing_waits(nats))
    assert await stored_uids(nats) == Counter(uids)


async def test_a_sidecar_that_stops_finishes_what_it_has_in_hand(nats) -> None:
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        await emit_all(sidecar, 600, delay="1s")
        await until(lambda: _holds_more(nats, 0))
    assert await in_hand(nats) == 0
    assert await in_stream(nats, "counts") + await in_stream(nats) == 600


async def test_a_burst_handles_what_came_due_since_the_last_one(nats, receiver, tmp_path) -> None:
    text = config(nats, actors=[ACTOR | {"url": receiver.url}])
    async with running(text):
        pass
    await _put_due(nats, 200)
    async with process(tmp_path / "daemon", text, "--burst", ready=False) as daemon:
        assert await daemon.wait() == 0
    assert len(receiver.received) == 200


async def test_a_burst_does_not_wait_for_what_can_not_be_stored(nats, tmp_path) -> None:
    async with running(config(nats)):
        pass
    await _put_due(nats, 3, event="gone")
    async with process(tmp_path / "daemon", config(nats), "--burst", ready=False) as daemon:
        assert await daemon.wait() == 0
    assert await in_stream(nats) == 3


# ---- whatever NATS does


@pytest.mark.parametrize("version", ["2.12.8", "newest"])
async def test_schedules_survive_a_restart_of_the_server(version, tmp_path) -> None:
    binary = None if version == "newest" else binary_of(version)
    async with nats_server(tmp_path / "nats", binary=binary) as nats, running(config(nats)) as sidecar:
        await keep_messages(nats)
        before = time.time()
        uids = await emit_all(sidecar, 20, delay="1500ms")
        await nats.kill()
        await nats.start()
        await until(lambda: _holds(nats, 20))
        assert time.time() >= before + 1.5
        await until(lambda: _nothing_waits(nats))
        assert await stored_uids(nats) == Counter(uids)


async def test_a_consumer_that_somebody_deleted_is_made_again(nats) -> None:
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        await emit_all(sidecar, 2, delay="500ms")
        async with nats.jetstream() as jetstream:
            await jetstream.delete_consumer("walnatsd", "due")
        await until(lambda: _holds(nats, 2))


async def test_a_stream_that_somebody_deleted_is_made_again(nats) -> None:
    """What waited in it is lost; what comes after it is not."""
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("walnatsd")
        assert (await sidecar.try_emit("counts", "7", uid="one", delay="1s"))[0] == 202
        await until(lambda: _holds(nats, 1))


async def test_a_cluster_that_loses_a_node_loses_no_delayed_emit(tmp_path) -> None:
    async with cluster(tmp_path) as nats, nats.jetstream() as jetstream:
        text = config_text(
            "", nats={"servers": nats.urls, "system_replicas": 3}, events=[{"name": "counts", "replicas": 3}],
        )  # fmt: skip
        async with running(text) as sidecar:
            await jetstream.add_consumer("counts", durable_name="keeper", num_replicas=3)
            answers = await asyncio.gather(
                *(sidecar.try_emit("counts", "7", uid="same", delay="4s") for _ in range(20))
            )
            assert sorted(status for status, _ in answers) == [200] * 19 + [202]
            uids = await emit_all(sidecar, 100, delay="3s")
            info = await jetstream.stream_info("walnatsd")
            assert info.cluster is not None
            assert info.cluster.leader is not None
            await nats.node(info.cluster.leader).kill()
            await until(lambda: _cluster_holds(jetstream, 101), timeout_s=40)
            seen = [await jetstream.get_msg("counts", sequence) for sequence in range(1, 102)]
    assert Counter((message.headers or {})["Nats-Msg-Id"] for message in seen) == Counter(uids | {"same"})


# ---- what can't be stored


async def test_what_can_not_be_stored_waits_is_seen_and_holds_nobody_up(nats, impatient) -> None:
    async with running(config(nats)) as sidecar:
        await emit_all(sidecar, 100, delay="1s")
        await until(lambda: _nothing_waits(nats))  # so the stream is what it was, and deduplicates none of these
    async with nats.jetstream() as jetstream:
        await jetstream.delete_stream("counts")
    async with running(config(nats, "others")) as sidecar:
        await keep_messages(nats, "others")
        with capture_logs() as logs:
            await _put_due(nats, 100)
            moment = time.time()
            await until(lambda: _is_counted(sidecar, STUCK % ("(unknown)", "NATS_UNAVAILABLE"), 3))
            await sidecar.try_emit("others", "7", uid="one", delay="100ms")
            await until(lambda: _holds(nats, 1, "others"))
            await until(lambda: _is_waiting(sidecar, 100))
            tries = await counted(sidecar, STUCK % ("(unknown)", "NATS_UNAVAILABLE"))
            seconds = time.time() - moment
            assert tries <= due.AT_ONCE + 1 + seconds / due.STORE_BUDGET_S  # one of them tries for all others
        told = [log for log in logs if log["log_level"] == "error"]
        assert {log["event_name"] for log in told} == {"counts"}
        assert len(told) == 1  # not once per message
        assert "no stream takes messages for 'counts'" in told[0]["why"]
        async with nats.jetstream() as jetstream:
            await jetstream.add_stream(StreamConfig(name="counts", subjects=["counts"], retention="interest"))  # type: ignore[arg-type]
            await jetstream.add_consumer("counts", durable_name="keeper")
        await until(lambda: _holds(nats, 100))
        await until(lambda: _nothing_waits(nats))


async def test_a_message_that_became_too_large_waits_until_the_limit_is_raised(nats, impatient) -> None:
    async with running(config(nats)) as sidecar, nats.jetstream() as jetstream:
        await keep_messages(nats)
        await sidecar.try_emit("counts", b"x" * 2000, uid="large", delay="2s")
        await sidecar.try_emit("counts", b"7", uid="small", delay="2s")
        limits = (await jetstream.stream_info("counts")).config
        limits.max_msg_size = 1000
        await jetstream.update_stream(limits)
        await until(lambda: _is_counted(sidecar, STUCK % ("counts", "TOO_LARGE"), 2))
        await until(lambda: _holds(nats, 1))
        assert await stored_uids(nats) == Counter(["small"])
        async with sidecar.session.get(f"http://{sidecar.http}/v1/events/counts/scheduled") as response:
            [item] = (await response.json())["items"]
        assert item["uid"] == "large"
        limits.max_msg_size = -1
        await jetstream.update_stream(limits)
        await until(lambda: _holds(nats, 2))
        await until(lambda: _nothing_waits(nats))


async def test_what_is_stuck_can_be_cancelled(nats, impatient, monkeypatch) -> None:
    async with running(config(nats)) as sidecar, nats.jetstream() as jetstream:
        limits = (await jetstream.stream_info("counts")).config
        limits.max_msg_size = 1000
        await sidecar.try_emit("counts", b"x" * 2000, uid="large", delay="2s")
        await jetstream.update_stream(limits)
        await until(lambda: _is_counted(sidecar, STUCK % ("counts", "TOO_LARGE"), 1))
        url = f"http://{sidecar.http}/v1/events/counts/scheduled/large"
        async with sidecar.session.delete(url) as response:
            assert await response.json() == {"cancelled": False}  # it is on its way, as far as anybody knows
        monkeypatch.setattr(schedules, "STUCK_AFTER_S", 0.0)
        async with sidecar.session.delete(url) as response:
            assert await response.json() == {"cancelled": True}
        assert await in_stream(nats) == 0
        await sidecar.try_emit("counts", b"7", uid="small", delay="10ms")  # and the worker goes on
        await until(lambda: _is_counted(sidecar, STUCK % ("counts", "stored"), 1))


async def test_what_comes_due_waits_for_actors_where_the_event_wants_some(nats, impatient) -> None:
    text = config_text(nats.url, events=[{"name": "counts", "min_actors": 1}])
    async with running(text) as sidecar, nats.jetstream() as jetstream:
        await keep_messages(nats)
        await sidecar.try_emit("counts", "7", uid="one", delay="1500ms")  # longer than a count of actors is believed
        await jetstream.delete_consumer("counts", "keeper")
        await until(lambda: _is_counted(sidecar, STUCK % ("counts", "NO_ACTORS"), 1))
        await keep_messages(nats)
        await until(lambda: _holds(nats, 1))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"walnatsd-event": "counts"},
        {"walnatsd-original-Nats-Msg-Id": "one"},
        {"walnatsd-event": "no event", "walnatsd-original-Nats-Msg-Id": "one"},
        {"walnatsd-event": "$JS.API.STREAM.DELETE.counts", "walnatsd-original-Nats-Msg-Id": "one"},
    ],
)
async def test_what_nobody_understands_is_left_alone_and_holds_nobody_up(nats, impatient, headers) -> None:
    """A newer version may have put it there, and understands it."""
    async with running(config(nats)) as sidecar, nats.jetstream() as jetstream:
        await keep_messages(nats)
        await jetstream.publish("walnatsd.due.counts", b"?", headers=headers or None)
        await until(lambda: _is_counted(sidecar, STUCK % ("(unknown)", "UNREADABLE"), 2))
        await sidecar.try_emit("counts", "7", uid="two", delay="10ms")
        await until(lambda: _holds(nats, 1))
        assert await in_stream(nats) == 1


async def test_a_declared_event_that_can_not_be_registered_holds_up_no_other(nats) -> None:
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="others", subjects=["others", "more"])
    async with running(config(nats, "counts", "others"), ready=False) as sidecar:
        await until(lambda: _is_taken(sidecar))
        await keep_messages(nats)
        await sidecar.try_emit("counts", "7", uid="two", delay="300ms")
        await until(lambda: _holds(nats, 1))
        assert not await sidecar.is_ready()


# ---- what they wait for


async def _put_due(nats: NatsServer, count: int, event: str = "counts") -> None:
    """Put messages of an event among those that are due, as a schedule does."""
    async with nats.jetstream() as jetstream:
        for number in range(count):
            headers = {"walnatsd-event": event, "walnatsd-original-Nats-Msg-Id": f"u{number}"}
            await jetstream.publish(f"walnatsd.due.{event}.U{number}", b"7", headers=headers)


async def _holds(nats: NatsServer, count: int, stream: str = "counts") -> bool:
    return await in_stream(nats, stream) == count


async def _holds_more(nats: NatsServer, count: int) -> bool:
    return await in_stream(nats, "counts") > count


async def _nothing_waits(nats: NatsServer) -> bool:
    return await in_stream(nats) == 0


async def _is_due(nats: NatsServer, count: int) -> bool:
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("walnatsd", "due")).num_pending == count


async def _is_counted(sidecar: Sidecar, name: str, at_least: int) -> bool:
    return await counted(sidecar, name) >= at_least


async def _is_waiting(sidecar: Sidecar, count: int) -> bool:
    return await counted(sidecar, "walnatsd_due_waiting_messages") == count


async def _is_taken(sidecar: Sidecar) -> bool:
    return (await sidecar.try_emit("counts", "7"))[0] == 201


async def _cluster_holds(jetstream: JetStreamContext, count: int) -> bool:
    try:
        return (await jetstream.stream_info("counts")).state.messages == count
    except Exception:  # noqa: BLE001 - an election is under way
        return False
