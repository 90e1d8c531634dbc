"""Looking at actors and events, pausing, resuming, deleting: over HTTP and on the command line."""

import asyncio
import datetime as dt
import json
import sys

import pytest
from aiohttp import web

from support.admin import actor_status, admin, event_status
from support.daemon import Sidecar, config_text, running
from support.nats_server import NatsServer, nats_server
from support.receiver import Received, Receiver, answers
from support.waiting import until
from walnatsd.broker import pull


def text_for(nats: NatsServer, receiver: Receiver, *names: str, **options: object) -> str:
    actors = [{"name": name, "event": "counts", "url": receiver.url} | options for name in names or ("print",)]
    return config_text(nats.url, events=[{"name": "counts", "description": "Numbers."}], actors=actors)


async def command(sidecar: Sidecar, *arguments: str, code: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", *arguments, "--admin", sidecar.admin,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == code, output.decode()
    return output.decode()


async def test_actors_and_events_are_listed_with_what_waits_for_them(nats, receiver) -> None:
    async def hang(_received: Received) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang
    async with running(text_for(nats, receiver, max_jobs=2)) as sidecar:
        for number in range(5):
            await sidecar.emit("counts", str(number))
        await receiver.wait_for(2)
        actor = await actor_status(sidecar, "print")
        assert actor | {"oldest_age_s": 0, "waiting": 0} == {
            "event": "counts", "name": "print", "url": receiver.url, "declared": "file", "exists": True, "state": "open",
            "in_flight": 2, "window": 2, "breaker": "closed", "pending": 3, "ack_pending": 2, "redelivered": 0,
            "waiting": 0, "oldest_age_s": 0, "dead_letters": 0, "paused": False, "paused_for_s": None, "paused_until": None, "pause_reason": None,
            "orphans": [], "drift": [],
        }  # fmt: skip
        assert 0 < actor["oldest_age_s"] < 30
        event = await event_status(sidecar, "counts")
        assert event["messages"] == 5
        assert event["actors"] == ["print"]
        assert (event["others"], event["orphans"], event["drift"]) == ([], [], [])


async def test_lists_come_in_pages(nats, receiver) -> None:
    names = [f"a{number}" for number in range(7)]
    async with running(text_for(nats, receiver, *names)) as sidecar:
        seen, cursor = [], {}
        while True:
            status, page = await admin(sidecar, "GET", "actors", limit=3, **cursor)
            assert status == 200
            seen.append([item["name"] for item in page["items"]])
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == [["a0", "a1", "a2"], ["a3", "a4", "a5"], ["a6"]]
        for query in ({"limit": 0}, {"limit": 501}, {"limit": "x"}, {"cursor": "!"}, {"cursor": "eyJhIjoxfQ"}):
            status, problem = await admin(sidecar, "GET", "actors", **query)
            assert (status, problem["reason"]) == (400, "INVALID_REQUEST")


async def test_a_pause_is_obeyed_by_all_sidecars_and_outlives_them(nats, receiver) -> None:
    text = text_for(nats, receiver)
    async with running(text) as first, running(text) as second:
        status, answer = await admin(first, "POST", "actors/counts/print/pause")
        assert (status, answer) == (200, {"paused": True, "until": None, "everywhere": True})
        await second.emit("counts", "1")
        paused = await actor_status(second, "print")
        assert (paused["state"], paused["paused"]) == ("paused", True)
        assert paused["pause_reason"] == "paused by an administrator"
    async with running(text) as third:
        assert (await actor_status(third, "print"))["pending"] == 1
        assert receiver.received == []
        assert "resumed print of counts" in await command(third, "actors", "resume", "counts", "print")
        await receiver.wait_for(1)
        resumed = await actor_status(third, "print")
        assert (resumed["paused"], resumed["pause_reason"]) == (False, None)


async def test_a_pause_ends_by_itself_at_the_given_time(nats, receiver) -> None:
    async with running(text_for(nats, receiver)) as sidecar:
        await command(sidecar, "actors", "pause", "counts", "print", "--for", "1200ms")
        await sidecar.emit("counts", "1")
        assert (await actor_status(sidecar, "print"))["paused_for_s"] <= 1.2
        await receiver.wait_for(1)


@pytest.mark.parametrize("until_", ["tomorrow", "2026-12-24T18:00:00", "2020-01-01T00:00:00Z"])
async def test_a_pause_until_something_else_than_a_time_to_come_is_refused(nats, receiver, until_: str) -> None:
    async with running(text_for(nats, receiver)) as sidecar:
        status, problem = await admin(sidecar, "POST", "actors/counts/print/pause", until=until_)
        assert (status, problem["reason"]) == (400, "INVALID_TIME")


async def test_an_actor_that_answers_410_says_so_in_its_status(nats, receiver) -> None:
    receiver.answer = answers(410)
    async with running(text_for(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)

        async def paused() -> bool:
            return (await actor_status(sidecar, "print"))["pause_reason"] == "the actor answered 410"

        await until(paused)
        output = await command(sidecar, "status")
        assert "print of counts is paused: the actor answered 410. Resume it with:" in output


@pytest.mark.parametrize("version", ["newest", "2.11.11"])
async def test_an_actor_that_is_resumed_goes_on_at_once(tmp_path, receiver, monkeypatch, version) -> None:
    """It went on with the next heartbeat, up to 5 s later, for the server had seen nothing that made it look."""
    from support.nats_server import binary_of

    for name, seconds in {"EXPIRES_S": 60.0, "HEARTBEAT_S": 30.0, "SILENCE_S": 60.0, "LOOK_INTERVAL_S": 60.0}.items():
        monkeypatch.setattr(pull, name, seconds)
    binary = None if version == "newest" else binary_of(version)
    async with nats_server(tmp_path, binary=binary) as nats, running(text_for(nats, receiver)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        assert (await admin(sidecar, "POST", "actors/counts/print/pause"))[1]["everywhere"]
        await sidecar.emit("counts", "2")
        await admin(sidecar, "POST", "actors/counts/print/resume")
        await receiver.wait_for(2)


async def test_a_server_before_2_11_pauses_in_this_sidecar_only_and_says_so(tmp_path, receiver) -> None:
    from support.nats_server import binary_of

    async with nats_server(tmp_path, binary=binary_of("2.10.26")) as nats, running(text_for(nats, receiver)) as sidecar:
        status, answer = await admin(sidecar, "POST", "actors/counts/print/pause")
        assert (status, answer["everywhere"]) == (200, False)
        await sidecar.emit("counts", "1")
        assert (await actor_status(sidecar, "print"))["state"] == "paused"
        status, problem = await admin(sidecar, "POST", "actors/counts/other/pause")
        assert (status, problem["reason"]) == (501, "SERVER_VERSION")
        assert receiver.received == []
        await admin(sidecar, "POST", "actors/counts/print/resume")
        await receiver.wait_for(1)
        until_ = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)).isoformat()
        await admin(sidecar, "POST", "actors/counts/print/pause", until=until_)
        assert (await actor_status(sidecar, "print"))["pause_reason"] == "paused by an administrator"
        await sidecar.emit("counts", "2")
        await receiver.wait_for(2)


async def test_an_actor_is_deleted_only_when_the_file_does_not_declare_it(nats, receiver) -> None:
    async with running(text_for(nats, receiver, "print", "old")):
        pass
    async with running(text_for(nats, receiver, "print")) as sidecar:
        status, problem = await admin(sidecar, "DELETE", "actors/counts/print")
        assert (status, problem["reason"]) == (409, "CONFLICT")
        assert "take it out of the file" in problem["detail"]
        assert (await event_status(sidecar, "counts"))["orphans"] == ["old"]
        output = await command(sidecar, "status")
        assert "nobody serves the consumer old of counts" in output
        assert "deleted old of counts" in await command(sidecar, "actors", "delete", "counts", "old", "--yes")
        assert (await event_status(sidecar, "counts"))["orphans"] == []
        status, problem = await admin(sidecar, "DELETE", "actors/counts/old")
        assert (status, problem["reason"]) == (404, "UNKNOWN_ACTOR")
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)


async def test_an_event_is_deleted_only_when_it_is_confirmed_and_not_in_the_file(nats, receiver) -> None:
    async with running(config_text(nats.url, events=[{"name": "old.one"}])):
        pass
    async with running(text_for(nats, receiver)) as sidecar:
        for query, reason in (({}, "INVALID_REQUEST"), ({"confirm": "counts"}, "INVALID_REQUEST")):
            status, problem = await admin(sidecar, "DELETE", "events/old.one", **query)
            assert (status, problem["reason"]) == (400, reason)
        status, problem = await admin(sidecar, "DELETE", "events/counts", confirm="counts")
        assert (status, problem["reason"]) == (409, "CONFLICT")
        await command(sidecar, "events", "delete", "old.one", "--yes")
        status, problem = await admin(sidecar, "DELETE", "events/old.one", confirm="old.one")
        assert (status, problem["reason"]) == (404, "UNKNOWN_EVENT")
        async with nats.jetstream() as jetstream:
            assert "old-one" not in {info.config.name for info in await jetstream.streams_info()}


async def test_status_is_readable_and_json_where_a_program_wants_it(nats, receiver) -> None:
    async with running(text_for(nats, receiver)) as sidecar:
        text = await command(sidecar, "status")
        assert text.splitlines()[0].split() == ["EVENT", "MESSAGES", "BYTES", "ACTORS", "ELSEWHERE", "ORPHANS"]
        assert "print of counts  open" in text
        assert json.loads(await command(sidecar, "status", "--json"))["actors"][0]["name"] == "print"


async def test_without_a_daemon_the_commands_say_what_to_do() -> None:
    gone = Sidecar("", "", "127.0.0.1:1")
    await gone.session.close()
    assert "start it with: walnatsd run, or name its address with --admin" in await command(gone, "status", code=1)


async def test_while_nats_is_away_the_lists_say_so(nats, receiver) -> None:
    async with running(text_for(nats, receiver)) as sidecar:
        await nats.stop()

        async def unavailable() -> bool:
            status, problem = await admin(sidecar, "GET", "actors")
            return status == 503 and problem["reason"] == "NATS_UNAVAILABLE"

        await until(unavailable)
        await nats.start()
