"""Replaying dead letters: to their actor alone, each once, whatever dies on the way."""

import asyncio

import pytest
from aiohttp import web

from support.admin import admin
from support.buried import bury, config, letters, refuse
from support.daemon import running
from support.receiver import Received, answers
from support.receiver import receiver as receiver_beside
from support.route import in_stream, route_of
from support.waiting import until
from walnatsd.broker.dead_letter_stream import DeadLetterStream
from walnatsd.broker.envelope import Past
from walnatsd.broker.errors import NoReplyError


async def test_a_replay_reaches_its_actor_alone_with_attempts_from_one(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver, "print", "store")) as sidecar:
        found = await bury(sidecar, ["7"], of=2)
        [first] = [each for each in receiver.received if each.path.endswith("print")]
        [letter] = [each for each in found if each["actor"] == "print"]
        receiver.answer = answers(500, then=204)
        status, answer = await admin(sidecar, "POST", f"dead-letters/{letter['sequence']}/replay")
        assert status == 200
        assert answer == {
            "sequence": letter["sequence"], "event": "counts", "actor": "print", "uid": "uid-0", "replay": 1,
        }  # fmt: skip
        await receiver.wait_for(4)
        await until(lambda: _empty(nats))
        assert [each["actor"] for each in await letters(sidecar)] == ["store"]
        metrics = await sidecar.metrics()
    replays = receiver.received[2:]
    assert [each.path for each in replays] == [first.path] * 2
    assert [each.attempt for each in replays] == [1, 2]
    assert [each.headers.pop("walnats-replay") for each in replays] == ["1", "1"]
    assert "walnats-replay" not in first.headers
    assert replays[0].body == first.body
    assert replays[0].headers == first.headers
    assert metrics["walnatsd_dead_letter_replays_total"] == 1


async def _empty(nats) -> bool:
    return await in_stream(nats) == 0


async def test_a_replay_that_dies_again_is_a_dead_letter_again_and_counts_on(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        [letter] = await bury(sidecar, ["7"])
        for number in (1, 2, 3):
            await admin(sidecar, "POST", f"dead-letters/{letter['sequence']}/replay")
            await receiver.wait_for(number + 1)
            [letter] = await until(lambda: letters(sidecar))
            assert letter["replay"] == number
            async with nats.jetstream() as jetstream:
                stored = await jetstream.get_msg("walnatsd-dead-letters", letter["sequence"])
            assert stored.headers["Nats-Msg-Id"] == f"dlq:counts:print:1:{number}"
            assert stored.headers["walnatsd-original-Nats-Msg-Id"] == "uid-0"
    assert [each.headers.get("walnats-replay") for each in receiver.received] == [None, "1", "2", "3"]
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 1


async def test_a_replay_that_is_said_again_after_a_crash_half_way_makes_one(nats, receiver, monkeypatch) -> None:
    remove = DeadLetterStream.remove
    receiver.answer = refuse

    async def crash(_stream: DeadLetterStream, _sequence: int) -> bool:
        raise NoReplyError("gone")

    async with receiver_beside() as gate:
        async with running(config(nats, receiver)) as sidecar:
            [letter] = await bury(sidecar, ["7"])
        gate.answer = answers(then=503)
        async with running(config(nats, receiver, wait_for=gate.url)) as sidecar:  # nothing is pulled
            monkeypatch.setattr(DeadLetterStream, "remove", crash)
            status, answer = await admin(sidecar, "POST", f"dead-letters/{letter['sequence']}/replay")
            assert (status, answer["reason"]) == (503, "NATS_UNAVAILABLE")
            assert len(await letters(sidecar)) == 1
            monkeypatch.setattr(DeadLetterStream, "remove", remove)
            status, _ = await admin(sidecar, "POST", f"dead-letters/{letter['sequence']}/replay")
            assert status == 200
            assert await letters(sidecar) == []
            assert await in_stream(nats) == 1


async def test_replays_at_the_same_time_make_one(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        [letter] = await bury(sidecar, ["7"])
        receiver.answer = answers()
        path = f"dead-letters/{letter['sequence']}/replay"
        results = await asyncio.gather(*(admin(sidecar, "POST", path) for _ in range(5)))
        assert {status for status, _ in results} <= {200, 404}, results
        await receiver.wait_for(2)
        await until(lambda: _empty(nats))
        assert await letters(sidecar) == []
    assert len(receiver.received) == 2


@pytest.mark.parametrize("replay", [1, 2])
async def test_who_handles_a_replay_removes_the_dead_letter_that_a_crash_left(nats, receiver, replay) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar, route_of(nats) as route:
        [letter] = await bury(sidecar, ["7"])
        receiver.answer = answers()
        dead = await DeadLetterStream(route._jetstream).get(letter["sequence"])
        assert dead is not None
        await route.open("counts", "print")
        message = dead.message._replace(replay=replay)
        await route.send("print", message, Past(dead_letter=dead.sequence), uid="replay:x")
        await receiver.wait_for(2)
        await until(lambda: _empty(nats))
        left = await letters(sidecar)
    assert len(left) == (0 if replay == 1 else 1)  # of another replay, it would be another dead letter


async def test_many_are_replayed_step_by_step_and_what_dies_again_is_left_for_later(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver, "print", "store")) as sidecar:
        await bury(sidecar, [str(number) for number in range(25)], of=2)
        query: dict[str, str | int] = {"event": "counts", "actor": "print", "limit": 10}
        counts, cursor = [], {}
        while True:
            status, answer = await admin(sidecar, "POST", "dead-letters/replay", **query, **cursor)
            assert (status, answer["failed"]) == (200, 0)
            counts.append(answer["replayed"])
            if answer["next_cursor"] is None:
                break
            cursor = {"cursor": answer["next_cursor"]}
        assert counts == [10, 10, 5]
        await receiver.wait_for(75)
        again = await until(lambda: _all_died_again(sidecar))
        assert sorted(each["uid"] for each in again) == sorted(f"uid-{number}" for number in range(25))
        assert len(await letters(sidecar, actor="store", limit=500)) == 25


async def _all_died_again(sidecar) -> list[dict[str, object]]:
    found = await letters(sidecar, actor="print", limit=500)
    return found if [each["replay"] for each in found] == [1] * 25 else []


async def test_replaying_many_goes_on_where_a_crash_ended_it(nats, receiver, monkeypatch) -> None:
    receiver.answer = refuse
    remove, removed = DeadLetterStream.remove, []

    async def crash_at_the_third(stream: DeadLetterStream, sequence: int) -> bool:
        removed.append(sequence)
        if len(removed) == 3:
            raise NoReplyError("gone")
        return await remove(stream, sequence)

    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "12345")
    receiver.answer = answers()
    async with receiver_beside() as gate:
        gate.answer = answers(then=503)
        async with running(
            config(nats, receiver, wait_for=gate.url)
        ) as sidecar:  # nothing is pulled, and nobody else removes
            monkeypatch.setattr(DeadLetterStream, "remove", crash_at_the_third)
            path, query = "dead-letters/replay", {"event": "counts", "actor": "print"}
            status, answer = await admin(sidecar, "POST", path, **query)
            assert (status, answer["replayed"], answer["failed"]) == (200, 2, 0)
            status, answer = await admin(sidecar, "POST", path, **query, cursor=answer["next_cursor"])
            assert (status, answer["failed"], answer["next_cursor"]) == (200, 0, None)
            gate.answer = answers()
            await receiver.wait_for(10)
            await until(lambda: _empty(nats))
            assert await letters(sidecar) == []
    assert sorted(receiver.bodies[5:]) == [b"1", b"2", b"3", b"4", b"5"]


async def test_what_was_cut_is_not_replayed_and_stays(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "1")
        async with nats.jetstream() as jetstream:
            stored = await jetstream.get_msg("walnatsd-dead-letters", 1)
            cut = (stored.headers or {}) | {"Nats-Msg-Id": "x", "walnats-dead-letter-truncated": "history, payload"}
            await jetstream.publish(stored.subject, b"", headers=cut)
        receiver.answer = answers()
        status, answer = await admin(sidecar, "POST", "dead-letters/2/replay")
        assert (status, answer["reason"]) == (409, "CONFLICT")
        assert "payload" in answer["detail"]
        status, answer = await admin(sidecar, "POST", "dead-letters/replay", event="counts", actor="print")
        assert (status, answer["replayed"], answer["failed"]) == (200, 1, 1)
        assert answer["failures"][0]["sequence"] == 2
        assert [each["sequence"] for each in await letters(sidecar)] == [2]


async def test_nothing_is_replayed_to_an_actor_that_is_not_there(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "1")
    async with running(config(nats, receiver, "other")) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.delete_consumer("counts", "print")
        for path, query in (
            ("dead-letters/1/replay", {}),
            ("dead-letters/replay", {"event": "counts", "actor": "print"}),
        ):
            status, answer = await admin(sidecar, "POST", path, **query)
            assert (status, answer["reason"]) == (409, "CONFLICT")
            assert "register the actor first" in answer["detail"]
        assert len(await letters(sidecar)) == 1


async def test_a_message_that_died_of_its_delay_header_is_handled_when_it_is_replayed(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.publish("counts", b"7", headers={"Walnats-Delay": "soon"})
        await until(lambda: letters(sidecar))
        assert receiver.received == []
        await admin(sidecar, "POST", "dead-letters/1/replay")
        [received] = await receiver.wait_for(1)
    assert received.body == b"7"


async def test_a_large_message_is_replayed(nats, receiver) -> None:
    async def refuse_once(received: Received) -> web.StreamResponse:
        return web.Response(status=204 if "walnats-replay" in received.headers else 400)

    receiver.answer = refuse_once
    payload = b"x" * ((1 << 20) - 4096)
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, [payload])
        await admin(sidecar, "POST", "dead-letters/1/replay")
        await receiver.wait_for(2)
    assert receiver.bodies == [payload, payload]
