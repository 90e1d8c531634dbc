"""What JetStream refuses on forwarding: it is set aside or waits for room, is never lost, and holds up nobody else."""

import asyncio
import json
from typing import Any

from support.admin import admin
from support.broker import broker
from support.commands import walnatsd
from support.daemon import running
from support.outages import NOBODY, config, is_forwarded, spool_status, waiting
from support.spools import entry, opened
from support.streams import stored
from support.waiting import until
from walnatsd.emit import forwarder
from walnatsd.emit.forwarder import Forwarder
from walnatsd.observe.metrics import Metrics


async def test_a_message_that_became_too_large_is_set_aside_and_the_others_go_on(nats, tmp_path) -> None:
    await nats.stop()
    nats._options = {"max_payload": 500}
    async with running(config(nats, tmp_path), ready=False) as sidecar:
        for number in range(5):
            payload = f"{number:0600}" if number in (1, 3) else str(number)
            assert (await sidecar.try_emit("counts", payload, uid=f"u{number}"))[0] == 202
        await nats.start()
        await until(lambda: is_forwarded(sidecar))
        assert [int(payload) for payload, _ in await stored(nats)] == [0, 2, 4]
        metrics = await sidecar.metrics()
        assert metrics["walnatsd_spool_set_aside_messages"] == 2
        assert metrics['walnatsd_spool_forwarded_total{event="counts",outcome="set-aside"}'] == 2
        assert metrics["walnatsd_spool_bytes"] > 1200

        _, page = await admin(sidecar, "GET", "spool/set-aside", limit=1)
        _, rest = await admin(sidecar, "GET", "spool/set-aside", cursor=page["next_cursor"])
        [first], [second] = page["items"], rest["items"]
        assert rest["next_cursor"] is None
        assert (first["uid"], second["uid"]) == ("u1", "u3")
        assert (first["event"], first["reason"], first["payload_bytes"]) == ("counts", "TOO_LARGE", 600)
        assert "max_payload" in first["detail"]
        listed = await walnatsd("spool", "list", "--admin", sidecar.admin)
        assert b"TOO_LARGE: headers and payload have" in listed.out
        assert b"2 messages were set aside" in (await walnatsd("status", "--admin", sidecar.admin)).out

        # when the cause is gone, one is tried again and the other is given up
        await nats.stop()
        nats._options = {}
        await nats.start()
        await until(sidecar.is_ready)
        done = await walnatsd("spool", "retry", str(first["id"]), "--admin", sidecar.admin)
        assert (done.exit_code, done.out) == (0, b"queued 1\n")
        await until(lambda: is_forwarded(sidecar))
        done = await walnatsd("spool", "discard", str(second["id"]), "--yes", "--admin", sidecar.admin)
        assert (done.exit_code, done.out) == (0, b"discarded 1\n")
        again = await walnatsd("spool", "discard", str(second["id"]), "--yes", "--admin", sidecar.admin)
        assert again.exit_code == 1
        assert "is set aside in the spool" in again.err
        answer = json.loads((await walnatsd("spool", "list", "--json", "--admin", sidecar.admin)).out)
        assert answer == {"items": [], "next_cursor": None}
        assert (await spool_status(sidecar))["bytes"] == 0
    assert [int(payload) for payload, _ in await stored(nats)] == [0, 2, 4, 1]


async def test_paths_of_the_spool_answer_nonsense_with_words(nats, tmp_path) -> None:
    async with running(config(nats, tmp_path)) as sidecar:
        assert (await admin(sidecar, "GET", "spool/set-aside", cursor="nonsense"))[0] == 400
        assert (await admin(sidecar, "GET", "spool/set-aside", limit=0))[0] == 400
        assert (await admin(sidecar, "POST", "spool/set-aside/x/retry"))[0] == 400
        status, answer = await admin(sidecar, "DELETE", "spool/set-aside/7")
        assert (status, answer["reason"]) == (404, "UNKNOWN_MESSAGE")


async def test_a_full_stream_keeps_its_own_messages_waiting_in_order_and_tells_emitters(
    nats, receiver, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(forwarder, "LONGEST_PAUSE_S", 0.1)
    events = [{"name": "full", "limits": {"messages": 2, "when_full": "refuse"}}, {"name": "counts"}]
    actors = [
        {
            "name": "a",
            "event": "full",
            "url": receiver.url,
            "retry": {"delays": [0.05], "jitter": 0},
            "max_jobs": 1,
            "breaker": {"open_for": 0.05, "max_open_for": 0.1},
        },
        {"name": "keeper", "event": "counts", "url": NOBODY},
    ]
    await receiver.down()
    await nats.stop()
    async with running(config(nats, tmp_path, events=events, actors=actors), ready=False) as sidecar:
        for number in range(6):
            assert (await sidecar.try_emit("full", str(number)))[0] == 202
            assert (await sidecar.try_emit("counts", str(number)))[0] == 202
        await nats.start()
        await until(lambda: _waits_for_room(sidecar))
        await until(lambda: _is(sidecar, 4))
        assert len(await stored(nats)) == 6, "the other event is not held up"
        status, answer = await sidecar.try_emit("full", "6")
        assert (status, answer["reason"]) == (507, "EVENT_FULL")
        assert "4 messages in the spool wait for room" in answer["detail"]
        assert (await sidecar.try_emit("counts", "6"))[0] == 201
        await receiver.up()
        await until(lambda: is_forwarded(sidecar))
        await until(lambda: len(set(receiver.bodies)) == 6)
        assert (await sidecar.try_emit("full", "7"))[0] == 201
    # a retried message is overtaken on its way to the actor, but not in the stream
    by_place = {int(received.headers["walnats-sequence"]): received.body for received in receiver.received}
    assert [by_place[place] for place in sorted(by_place)][:6] == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def _waits_for_room(sidecar) -> bool:
    events = {event["event"]: event["waits_for"] for event in (await spool_status(sidecar))["events"]}
    return set(events) == {"full"} and "full" in (events["full"] or "")


async def _is(sidecar, count: int) -> bool:
    return await waiting(sidecar) == count


async def test_min_actors_hold_the_messages_back_for_nobody_would_get_them(nats, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(forwarder, "LONGEST_PAUSE_S", 0.1)
    await nats.stop()
    text = config(nats, tmp_path, events=[{"name": "counts", "min_actors": 1}], actors=[])
    async with running(text, ready=False) as sidecar:
        assert (await sidecar.try_emit("counts", "0"))[0] == 202
        await nats.start()
        await until(lambda: _waits_for_actors(sidecar))
        async with nats.jetstream() as jetstream:
            await jetstream.add_consumer("counts", durable_name="keeper")
        await until(lambda: is_forwarded(sidecar))
    assert [payload for payload, _ in await stored(nats)] == [b"0"]


async def _waits_for_actors(sidecar) -> bool:
    return any("min_actors" in (event["waits_for"] or "") for event in (await spool_status(sidecar))["events"])


async def test_what_nobody_declares_any_more_is_forwarded_where_its_stream_is_and_set_aside_where_it_is_not(
    nats, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(forwarder, "PATIENCE_S", 0.5)
    monkeypatch.setattr(forwarder, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(forwarder, "STORE_BUDGET_S", 0.3)
    await nats.stop()
    before = config(nats, tmp_path, events=[{"name": "old"}, {"name": "gone"}, {"name": "counts"}], actors=[])
    async with running(before, ready=False) as sidecar:
        for event in ("old", "gone", "counts"):
            assert (await sidecar.try_emit(event, "0"))[0] == 202
    await nats.start()
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="old", subjects=["old"], retention="interest")
        await jetstream.add_consumer("old", durable_name="keeper")
    async with running(config(nats, tmp_path)) as sidecar:
        await until(lambda: is_forwarded(sidecar))
        _, page = await admin(sidecar, "GET", "spool/set-aside")
    assert [(item["event"], item["reason"]) for item in page["items"]] == [("gone", "UNKNOWN_EVENT")]
    assert "nobody declares" in page["items"][0]["detail"]
    assert len(await stored(nats, "old")) == len(await stored(nats)) == 1


async def test_a_message_that_can_not_be_set_aside_stays_where_it_is(nats, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(forwarder, "LONGEST_PAUSE_S", 0.1)
    await nats.stop()
    nats._options = {"max_payload": 500}
    async with running(config(nats, tmp_path), ready=False) as sidecar:
        assert (await sidecar.try_emit("counts", f"{0:0600}"))[0] == 202
        with monkeypatch.context() as patched:
            patched.setattr("walnatsd.spool.store.set_aside", _full_disk)
            await nats.start()
            await until(lambda: _has_failed(sidecar))
            assert await waiting(sidecar) == 1
        await until(lambda: is_forwarded(sidecar))
        assert (await spool_status(sidecar))["set_aside"] == 1


def _full_disk(*_given: object) -> None:
    import sqlite3

    raise sqlite3.OperationalError("database or disk is full")


async def _has_failed(sidecar) -> bool:
    return (await sidecar.metrics())["walnatsd_spool_write_failures_total"] > 1


async def test_a_stop_while_forwarding_ends_in_time_and_loses_nothing(nats, tmp_path) -> None:
    await nats.stop()
    async with running(config(nats, tmp_path), ready=False) as sidecar:
        await asyncio.gather(*(sidecar.try_emit("counts", str(number), uid=str(number)) for number in range(500)))
        await nats.start()
        await until(lambda: _has_begun(sidecar))
    async with running(config(nats, tmp_path)) as sidecar:
        await until(lambda: is_forwarded(sidecar))
    assert sorted(int(payload) for payload, _ in await stored(nats)) == list(range(500))


async def _has_begun(sidecar) -> bool:
    return await waiting(sidecar) < 500


async def test_what_is_kept_after_the_forwarding_has_ended_waits_for_the_next_start(nats, tmp_path) -> None:
    """An emit whose caller has gone may still be on its way to the disk when the daemon stops."""
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: wrong.append(context))
    async with broker(nats.url) as parts, opened(tmp_path / "spool.db") as spool:
        forwarder = Forwarder(spool, None, parts.connection, parts.jetstream, lambda _: None, lambda _: None, Metrics())
        run = asyncio.create_task(forwarder.run())
        await asyncio.sleep(0)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await spool.append(entry(1))
        assert spool.messages == 1
    assert wrong == []
