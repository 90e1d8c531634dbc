"""Looking at dead letters and discarding them, over HTTP and on the command line."""

import asyncio
import base64
import json
import sys

from support.admin import admin
from support.buried import bury, config, letters, refuse
from support.daemon import Sidecar, config_text, running
from support.receiver import answers
from support.waiting import until
from walnatsd.api import watch


async def command(sidecar: Sidecar, *arguments: str, code: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", "dead-letters", *arguments, "--admin", sidecar.admin,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == code, output.decode()
    return output.decode()


async def test_dead_letters_are_listed_by_event_and_actor_in_pages(nats, receiver) -> None:
    receiver.answer = refuse
    events = [{"name": "counts"}, {"name": "parcel.sent"}]
    actors = [
        {"name": name, "event": event["name"], "url": receiver.url} for event in events for name in ("print", "store")
    ]
    async with running(config_text(nats.url, events=events, actors=actors)) as sidecar:
        assert await letters(sidecar) == []
        for number in range(3):
            await sidecar.emit("counts", str(number))
            await sidecar.emit("parcel.sent", str(number))
        await until(lambda: _has(sidecar, 12))
        assert len(await letters(sidecar, event="parcel.sent")) == 6
        assert len(await letters(sidecar, actor="store")) == 6
        mine = await letters(sidecar, event="parcel.sent", actor="store")
        assert {(each["event"], each["actor"]) for each in mine} == {("parcel.sent", "store")}
        assert sorted(each["message_sequence"] for each in mine) == [1, 2, 3]
        assert await letters(sidecar, event="counts", actor="nobody") == []
        pages, cursor = [], {}
        while True:
            _, page = await admin(sidecar, "GET", "dead-letters", actor="print", limit=4, **cursor)
            pages.append([each["sequence"] for each in page["items"]])
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
    assert [len(page) for page in pages] == [4, 2]
    assert sorted(pages[0] + pages[1]) == pages[0] + pages[1]


async def _has(sidecar: Sidecar, count: int) -> bool:
    return len(await letters(sidecar, limit=500)) == count


async def test_a_dead_letter_is_shown_with_all_that_is_known(nats, receiver) -> None:
    receiver.answer = refuse
    binary = b"\xff\x00binary"
    async with running(config(nats, receiver)) as sidecar:
        text, other = sorted(await bury(sidecar, ["grün", binary]), key=lambda each: str(each["uid"]))
        status, shown = await admin(sidecar, "GET", f"dead-letters/{text['sequence']}")
        assert status == 200
        assert {key: shown[key] for key in text} == text
        assert shown["payload"] == "grün"
        assert "payload_base64" not in shown
        assert {name.lower(): value for name, value in shown["headers"].items()} == {
            "content-type": "application/json",
            "ce-datacontenttype": "application/json",
            "ce-subject": "s",
            "nats-msg-id": "uid-0",
        }
        assert shown["history"]["complete"] is True
        assert (text["reason"], text["status"], text["attempts"]) == ("422: no such parcel", 422, 1)
        assert (text["event"], text["actor"], text["uid"], text["replay"]) == ("counts", "print", "uid-0", 0)
        assert text["payload_bytes"] == len("grün".encode())
        assert str(text["stored_at"]) <= str(text["last_attempt_at"]) <= str(text["died_at"])
        _, shown = await admin(sidecar, "GET", f"dead-letters/{other['sequence']}")
        assert base64.b64decode(shown["payload_base64"]) == binary
        assert "payload" not in shown


async def test_a_discarded_dead_letter_is_gone(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "12")
        assert await admin(sidecar, "DELETE", "dead-letters/1") == (204, None)
        for method, path in (("DELETE", ""), ("GET", ""), ("POST", "/replay")):
            status, answer = await admin(sidecar, method, f"dead-letters/1{path}")
            assert (status, answer["reason"]) == (404, "UNKNOWN_DEAD_LETTER")
        assert [each["sequence"] for each in await letters(sidecar)] == [2]


async def test_bad_requests_are_answered_in_words(nats, receiver) -> None:
    bad = [
        ("GET", "dead-letters", {"limit": 501}, "INVALID_REQUEST"),
        ("GET", "dead-letters", {"cursor": "nonsense"}, "INVALID_REQUEST"),
        ("GET", "dead-letters", {"cursor": "WyI3IiwieCJd"}, "INVALID_REQUEST"),  # ["7","x"]
        ("GET", "dead-letters", {"event": "a b"}, "INVALID_NAME"),
        ("GET", "dead-letters", {"actor": "a.*"}, "INVALID_NAME"),
        ("GET", "dead-letters/many", {}, "INVALID_REQUEST"),
        ("DELETE", "dead-letters/-1", {}, "INVALID_REQUEST"),
        ("POST", "dead-letters/replay", {}, "INVALID_REQUEST"),
        ("POST", "dead-letters/replay", {"event": "counts"}, "INVALID_REQUEST"),
        ("POST", "dead-letters/replay", {"event": "counts", "actor": "print", "cursor": "WyI3Il0"}, "INVALID_REQUEST"),
    ]
    async with running(config(nats, receiver)) as sidecar:
        for method, path, query, reason in bad:
            status, answer = await admin(sidecar, method, path, **query)
            assert (status, answer["reason"]) == (400, reason), path
            assert answer["detail"]


async def test_a_dead_letter_that_somebody_else_stored_is_shown_as_far_as_it_makes_sense(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.publish(
                "walnatsd.dead-letter.counts.print", b"mine",
                headers={"walnats-dead-letter-attempts": "many", "walnats-dead-letter-history": "{", "x": "y"},
            )  # fmt: skip
        _, shown = await admin(sidecar, "GET", "dead-letters/1")
        assert (shown["event"], shown["actor"], shown["attempts"]) == ("counts", "print", 0)
        assert (shown["headers"], shown["payload"], shown["history"]) == ({"x": "y"}, "mine", None)
        await admin(sidecar, "POST", "dead-letters/1/replay")
        [received] = await receiver.wait_for(1)
    assert received.body == b"mine"
    assert received.headers["walnats-replay"] == "1"


async def test_a_dead_letter_stream_that_somebody_deleted_comes_back(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.2)
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("walnatsd-dead-letters")
        [letter] = await bury(sidecar, ["7"])
    assert letter["uid"] == "uid-0"
    assert len(receiver.received) == 1


async def test_the_command_line_lists_shows_replays_and_discards(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        assert "There are no dead letters" in await command(sidecar, "list")
        await bury(sidecar, "12345")
        listed = await command(sidecar, "list", "--limit", "2")
        assert "print of counts" in listed
        assert "422: no such parcel" in listed
        assert "uid-0" in listed
        cursor = listed.split("--cursor ")[1].strip()
        assert len((await command(sidecar, "list", "--cursor", cursor)).splitlines()) == 4
        page = json.loads(await command(sidecar, "list", "--event", "counts", "--json"))
        assert [item["sequence"] for item in page["items"]] == [1, 2, 3, 4, 5]
        shown = await command(sidecar, "show", "1")
        assert "ce-subject: s" in shown
        assert "422: no such parcel" in shown
        assert "1. 20" in shown
        assert "no such dead letter" not in shown
        assert "there is no dead letter 99" in await command(sidecar, "show", "99", code=1)
        assert json.loads(await command(sidecar, "show", "1", "--json"))["uid"] == "uid-0"
        assert "discarded 2" in await command(sidecar, "discard", "1", "2", "--yes")
        receiver.answer = answers()
        assert "replayed 1" in await command(sidecar, "replay", "3")
        assert "replayed 2" in await command(sidecar, "replay", "--event", "counts", "--actor", "print")
        assert await letters(sidecar) == []
        counted = json.loads(await command(sidecar, "replay", "--event", "counts", "--actor", "print", "--json"))
        assert counted == {"replayed": 0, "failed": 0, "failures": []}
        assert "give either" in await command(sidecar, "replay", "--event", "counts", code=2)
        await receiver.wait_for(8)


async def test_a_payload_can_not_steer_the_terminal(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, ["\x1b[2Jevil\x9b2J\r\nline"])
        shown = await command(sidecar, "show", "1")
    assert "�[2Jevil�2J�\nline" in shown


async def test_replaying_many_on_the_command_line_shows_how_far_it_is(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, [str(number) for number in range(120)])
        receiver.answer = answers()
        said = await command(sidecar, "replay", "--event", "counts", "--actor", "print", "--limit", "110")
        assert "replayed 100 so far" in said
        assert said.endswith("replayed 110\n")
        assert len(await letters(sidecar)) == 10
