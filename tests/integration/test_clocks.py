"""Clocks: ticks reach actors, whatever runs and stops in between, and several sidecars keep the same clocks in peace."""

import asyncio
import datetime as dt
import gzip
import json
import signal
import sys
import time
import zoneinfo
from typing import Any

import pytest

import walnatsd_client
from support.admin import admin, event_status
from support.clocks import DUE, SCHEDULES, declare_as, last_sequence, purge, schedule, subjects, tick_of
from support.daemon import config_text, process, running
from support.nats_server import NatsServer, binary_of, nats_server
from support.receiver import Receiver, answers
from support.waiting import until
from support.zones import write_zone
from walnatsd.broker.embedded import find_binary
from walnatsd.clocks import keeper

EVERY_SECOND: dict[str, Any] = {"event": "second.passed", "every": "1s"}


def config(
    nats: NatsServer, receiver: Receiver | None = None, *clocks: dict[str, Any], event: dict[str, Any] | None = None,
    actor: dict[str, Any] | None = None, **parts: Any,
) -> str:  # fmt: skip
    """An event that passes every second, an actor that sees it, and clocks."""
    actors = [{"name": "look", "event": "second.passed", "url": receiver.url} | (actor or {})] if receiver else []
    events = [{"name": "second.passed"} | (event or {})]
    return config_text(nats.url, events=events, actors=actors, clocks=list(clocks), **parts)


def instants(receiver: Receiver) -> list[int]:
    """The ticks that came, in order of arrival."""
    return [tick_of(received.headers["walnats-uid"])[1] for received in receiver.received]


async def ticks(receiver: Receiver, count: int) -> list[int]:
    await receiver.wait_for(count)
    return instants(receiver)


# ---- what a tick is


async def test_a_tick_says_its_time_in_the_clock_s_zone_and_its_instant_in_ce_time(nats, receiver) -> None:
    async with running(config(nats, receiver, EVERY_SECOND | {"timezone": "Asia/Kolkata"})):
        found = await ticks(receiver, 3)
    assert len(set(found)) == len(found)
    for received, at in zip(receiver.received, found, strict=True):
        wall = dt.datetime.fromtimestamp(at, zoneinfo.ZoneInfo("Asia/Kolkata")).replace(tzinfo=None)
        assert received.body == wall.isoformat().encode()
        assert received.headers["walnats-uid"] == f"clock:second.passed:{at}"
        assert received.headers["content-type"] == "text/plain"
        assert dt.datetime.fromisoformat(received.headers["ce-time"]).timestamp() == at
        assert received.headers["ce-type"] == "second.passed"
        assert not [name for name in received.headers if "schedule" in name or name.startswith("walnatsd")]
        assert 0 <= dt.datetime.now(dt.UTC).timestamp() - at < 30


async def test_ticks_are_aligned_to_the_epoch(nats, receiver) -> None:
    async with running(config(nats, receiver, EVERY_SECOND | {"every": 2})):
        found = await ticks(receiver, 3)
    assert [at % 2 for at in found] == [0] * len(found)


async def test_a_cron_expression_of_six_fields_ticks_at_its_seconds(nats, receiver) -> None:
    async with running(config(nats, receiver, {"event": "second.passed", "cron": "*/3 * * * * *"})):
        found = await ticks(receiver, 2)
    assert [at % 3 for at in found] == [0] * len(found)


async def test_match_time_takes_the_ticks_that_fit(nats, receiver) -> None:
    years = [dt.datetime.now(dt.UTC).year, dt.datetime.now(dt.UTC).year + 1]
    actors = [
        {"name": "now", "event": "second.passed", "url": receiver.url, "match_time": {"year": years}},
        {"name": "then", "event": "second.passed", "url": receiver.url, "match_time": {"year": [2001]}},
    ]
    text = config_text(nats.url, events=[{"name": "second.passed"}], actors=actors, clocks=[EVERY_SECOND])
    async with running(text) as sidecar:
        await receiver.wait_for(2)
        await until(lambda: skipped(sidecar, "then"))
    assert {received.headers["walnats-actor"] for received in receiver.received} == {"now"}


async def skipped(sidecar: Any, actor: str) -> bool:
    metrics = await sidecar.metrics()
    return any(value for name, value in metrics.items() if "skipped" in name and f'actor="{actor}"' in name)


async def test_a_tick_goes_through_the_codecs_of_its_event(nats, receiver) -> None:
    async with running(config(nats, receiver, EVERY_SECOND, event={"codecs": [{"gzip": {}}]})):
        async with nats.jetstream() as jetstream:
            watcher = await jetstream.subscribe("second.passed")
            stored = await watcher.next_msg(timeout=15)
        await receiver.wait_for(1)
    assert gzip.decompress(stored.data).startswith(b"20")
    assert dt.datetime.fromisoformat(receiver.received[0].body.decode())


async def test_a_sidecar_without_the_event_leaves_its_encoded_ticks_to_one_that_has_it(nats, receiver) -> None:
    encoded = config(nats, receiver, EVERY_SECOND, event={"codecs": [{"gzip": {}}]})
    others = [config_text(nats.url, service={"name": f"other-{number}"}) for number in range(3)]
    async with running(encoded), running(others[0]), running(others[1]), running(others[2]):
        found = await ticks(receiver, 6)
    assert len(set(found)) == len(found)
    assert all(dt.datetime.fromisoformat(body.decode()) for body in receiver.bodies)


async def test_ticks_with_too_few_actors_are_dropped_in_silence(nats, receiver, capsys) -> None:
    file = config(nats, None, EVERY_SECOND, event={"min_actors": 1})
    async with running(file) as sidecar:
        await until(lambda: due(sidecar, "NO_ACTORS"))
        await until(lambda: is_empty(nats))
    assert "can't be stored" not in capsys.readouterr().out


async def due(sidecar: Any, outcome: str) -> float:
    metrics = await sidecar.metrics()
    return metrics.get(f'walnatsd_due_total{{event="second.passed",outcome="{outcome}"}}', 0.0)


async def is_empty(nats: NatsServer) -> bool:
    return not await subjects(nats, DUE)


async def test_a_tick_that_is_handed_over_twice_is_stored_once(nats, receiver) -> None:
    """The uid is the tick's, so it does not matter who fetched it how often."""
    async with running(config(nats, receiver, {"event": "second.passed", "cron": "0 0 0 1 1 *"})) as sidecar:
        _, header = await schedule(nats, "second-passed")
        ours = {name: value for name, value in header.items() if name.startswith("walnatsd-")}
        async with nats.jetstream() as jetstream:
            for _ in range(3):
                await jetstream.publish(f"{DUE}second-passed", headers=ours)
        await until(lambda: due(sidecar, "duplicate"))
        await until(lambda: is_empty(nats))
    assert instants(receiver) == [int(dt.datetime(dt.datetime.now(dt.UTC).year, 1, 1, tzinfo=dt.UTC).timestamp())]


# ---- who runs when


async def test_what_ticked_while_no_sidecar_ran_is_one_tick_when_one_comes(nats, receiver) -> None:
    async with running(config(nats, receiver, EVERY_SECOND)):
        before = await ticks(receiver, 1)
    stopped_at = await last_sequence(nats)
    await until(lambda: three_more(nats, stopped_at))
    received = len(receiver.received)
    async with running(config(nats, receiver, EVERY_SECOND)):
        await receiver.wait_for(received + 2)
    found = instants(receiver)
    assert len(set(found)) == len(found)
    assert min(found[received:]) >= max(before) + 3, "an older tick than the last one came"


async def three_more(nats: NatsServer, sequence: int) -> bool:
    return await last_sequence(nats) >= sequence + 3


async def test_a_tick_of_the_time_without_a_sidecar_comes_when_one_does(nats, receiver) -> None:
    """It need not tick again for that: a daily clock that ticked at night is seen in the morning."""
    soon = int(time.time()) + 4
    at = dt.datetime.fromtimestamp(soon, dt.UTC)
    clock = {"event": "second.passed", "cron": f"{at.second} {at.minute} {at.hour} * * *"}
    async with running(config(nats, receiver, clock)):
        pass
    await until(lambda: subjects(nats, DUE))
    async with running(config(nats, receiver, clock)):
        assert await ticks(receiver, 1) == [soon]


async def test_several_sidecars_do_not_duplicate_ticks_and_leave_the_schedule_alone(nats, receiver) -> None:
    text = config(nats, receiver, EVERY_SECOND)
    async with running(text):
        before, _ = await schedule(nats, "second-passed")
        async with running(text), running(text):
            found = await ticks(receiver, 4)
        after, _ = await schedule(nats, "second-passed")
    assert len(set(found)) == len(found)
    assert before == after


async def test_a_killed_sidecar_costs_no_tick_that_another_one_can_see(nats, receiver, tmp_path) -> None:
    text = config(nats, receiver, EVERY_SECOND)
    async with running(text), process(tmp_path / "killed", text) as killed:
        await receiver.wait_for(2)
        await killed.end(signal.SIGKILL)
        found = await ticks(receiver, len(receiver.received) + 3)
    assert len(set(found)) == len(found)


async def test_ticks_go_on_after_nats_was_away_and_what_was_missed_is_at_most_one(nats, receiver) -> None:
    async with running(config(nats, receiver, EVERY_SECOND)) as sidecar:
        await receiver.wait_for(2)
        await nats.kill()
        killed_at = int(time.time())
        await asyncio.sleep(4)  # ticks pass; no condition tells
        started_at = int(time.time())
        await nats.start()
        count = len(receiver.received)
        await receiver.wait_for(count + 3)
        await until(sidecar.is_ready)
    found = instants(receiver)
    assert len(set(found)) == len(found)
    assert len([at for at in found if killed_at < at < started_at - 1]) == 0
    assert found == sorted(found)


# ---- declarations


async def test_a_changed_clock_changes_the_schedule_at_the_start_and_at_a_reload(nats, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"

    async def declared(clock: dict[str, Any]) -> bool:
        return (await schedule(nats, "second-passed"))[1]["walnatsd-clock"] == clock["words"]

    def text(every: str) -> str:
        return config(nats, None, EVERY_SECOND | {"every": every})

    async with running(text("1h")):
        assert await declared({"words": "every 3600"})
    file.write_text(text("6h"))
    async with running(file.read_text(), file=str(file)) as sidecar:
        assert await declared({"words": "every 21600"})
        file.write_text(text("90s"))
        assert await admin(sidecar, "POST", "reload") == (
            200, {"added": [], "changed": ["clock of second.passed"], "removed": []},
        )  # fmt: skip
        await until(lambda: declared({"words": "every 90"}))
        await until(sidecar.is_ready)
        assert await subjects(nats) == [f"{SCHEDULES}second-passed.0", f"{SCHEDULES}second-passed.1"]
        file.write_text(text("1d"))
        assert (await admin(sidecar, "POST", "reload"))[0] == 200
        await until(lambda: declared({"words": "every 86400"}))
        await until(lambda: only_one(nats))


async def only_one(nats: NatsServer) -> bool:
    return await subjects(nats) == [f"{SCHEDULES}second-passed.0"]


async def test_a_clock_that_is_taken_out_of_the_file_goes_at_a_reload(nats, receiver, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(config(nats, receiver, EVERY_SECOND))
    async with running(file.read_text(), file=str(file)) as sidecar:
        await receiver.wait_for(1)
        file.write_text(config(nats, receiver))
        status, answer = await admin(sidecar, "POST", "reload")
        assert (status, answer["removed"]) == (200, ["clock of second.passed"])
        await until(lambda: has_no_clock(nats))
        assert (await event_status(sidecar, "second.passed"))["clock"] is None
        file.write_text(config(nats, receiver, EVERY_SECOND))  # and comes again
        count = len(receiver.received)
        assert (await admin(sidecar, "POST", "reload"))[0] == 200
        await receiver.wait_for(count + 2)


async def has_no_clock(nats: NatsServer) -> bool:
    return not await subjects(nats) and not await subjects(nats, DUE)


OWN = [{"name": "second.passed"}, {"name": "own"}]
"""Beside the event of the clock, one for a clock by which it is seen that a sidecar looks at clocks."""
OWN_CLOCK = {"event": "own", "every": "1d"}


async def looked(nats: NatsServer) -> None:
    """Wait until a sidecar with the clock OWN_CLOCK, once ready, has looked at all clocks again."""
    await purge(nats, f"{SCHEDULES}own.0")
    await until(lambda: is_there(nats, "own"))


async def is_there(nats: NatsServer, stream: str) -> bool:
    return f"{SCHEDULES}{stream}.0" in await subjects(nats)


async def test_a_clock_that_is_gone_at_the_next_start_goes_for_the_service_that_declared_it(nats, monkeypatch) -> None:
    monkeypatch.setattr(keeper, "PERIOD_S", 0.1)
    async with running(config(nats, None, EVERY_SECOND, service={"name": "warehouse"})):
        pass
    async with running(config_text(nats.url, events=OWN, clocks=[OWN_CLOCK], service={"name": "shop"})):
        await looked(nats)
        assert await is_there(nats, "second-passed")
    async with running(config(nats, None, service={"name": "warehouse"})):
        await until(lambda: is_gone(nats, "second-passed"))
    assert await is_there(nats, "own")


async def is_gone(nats: NatsServer, stream: str) -> bool:
    return not await is_there(nats, stream) and f"{DUE}{stream}" not in await subjects(nats, DUE)


async def test_sidecars_without_a_name_of_their_own_remove_no_clock_when_they_start(
    nats, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(keeper, "PERIOD_S", 0.1)

    def text(*clocks: dict[str, Any]) -> str:
        return nameless(config_text(nats.url, events=OWN, clocks=list(clocks)))

    file = tmp_path / "walnatsd.yaml"
    file.write_text(text(EVERY_SECOND, OWN_CLOCK))
    async with running(file.read_text(), file=str(file)):
        assert (await schedule(nats, "second-passed"))[1]["walnatsd-clock-owner"] == ""
    async with running(text(OWN_CLOCK)):
        await looked(nats)
        assert await is_there(nats, "second-passed")
    async with running(file.read_text(), file=str(file)) as sidecar:  # a reload knows what was declared
        file.write_text(text(OWN_CLOCK))
        assert (await admin(sidecar, "POST", "reload"))[0] == 200
        await until(lambda: is_gone(nats, "second-passed"))


def nameless(text: str) -> str:
    named = "service:\n  name: tests\n"
    assert named in text
    return text.replace(named, "")


async def test_a_service_that_gets_a_name_owns_its_clocks_from_then_on(nats) -> None:
    async with running(nameless(config(nats, None, EVERY_SECOND))):
        pass
    async with running(config(nats, None, EVERY_SECOND)):
        assert (await schedule(nats, "second-passed"))[1]["walnatsd-clock-owner"] == "tests"


async def test_a_clock_that_another_service_declares_otherwise_is_drift_and_stays_as_it_is(nats, capsys) -> None:
    theirs = config(nats, None, EVERY_SECOND | {"every": "1h"}, service={"name": "theirs"})
    ours = config(nats, None, EVERY_SECOND, service={"name": "ours"})
    async with running(theirs):
        before = await schedule(nats, "second-passed")
        async with running(ours) as sidecar:
            words = "the service 'theirs' declares it as every 3600 in UTC, here it is every 1 s"
            shown = (await event_status(sidecar, "second.passed"))["clock"]
            assert (shown["drift"], shown["next_tick_at"], shown["problem"]) == ([words], None, None)
            assert (await sidecar.metrics())['walnatsd_drift{actor="",event="second.passed",kind="clock"}'] == 1
            assert await sidecar.is_ready()
        assert await schedule(nats, "second-passed") == before
    assert capsys.readouterr().out.count("the clock in NATS is not as it is declared") == 1
    async with running(ours.replace("1s", "1h")) as agreeing:  # two services may declare the same clock
        assert (await event_status(agreeing, "second.passed"))["clock"]["drift"] == []
    assert await schedule(nats, "second-passed") == before


async def test_a_clock_that_somebody_changes_while_it_is_kept_is_drift(nats, monkeypatch, capsys) -> None:
    monkeypatch.setattr(keeper, "PERIOD_S", 0.1)
    async with running(config(nats, None, EVERY_SECOND)) as sidecar:
        await declare_as(nats, "second-passed", **{"walnatsd-clock": "every 60", "Nats-Schedule": "0 * * * * *"})
        await until(lambda: drifts(sidecar))
        assert (await schedule(nats, "second-passed"))[1]["walnatsd-clock"] == "every 60"
    async with running(config(nats, None, EVERY_SECOND)):  # a start writes it
        assert (await schedule(nats, "second-passed"))[1]["walnatsd-clock"] == "every 1"


async def drifts(sidecar: Any) -> bool:
    return bool((await event_status(sidecar, "second.passed"))["clock"]["drift"])


async def test_a_clock_that_somebody_deletes_is_registered_again_and_said_aloud(
    nats, receiver, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(keeper, "PERIOD_S", 0.1)
    async with running(config(nats, receiver, EVERY_SECOND)):
        await receiver.wait_for(1)
        await purge(nats, f"{SCHEDULES}>")
        await until(lambda: subjects(nats))
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("walnatsd")
        count = len(receiver.received)
        await receiver.wait_for(count + 2)
    assert "somebody deleted the clock; registered it again" in capsys.readouterr().out


async def test_an_older_sidecar_of_the_service_and_a_newer_one_do_not_fight(nats, monkeypatch, capsys) -> None:
    """The older one declares a clock that the newer one does not know any more: it stays while the older one runs."""
    monkeypatch.setattr(keeper, "PERIOD_S", 0.1)
    async with running(config(nats, None, EVERY_SECOND)) as older:
        async with running(config(nats, None)):
            said: list[str] = []
            await until(lambda: heard(said, capsys, "somebody deleted the clock"))
            sequence, _ = await schedule(nats, "second-passed")
            await asyncio.sleep(1)  # ten looks of each
            assert (await schedule(nats, "second-passed"))[0] == sequence
        assert (await event_status(older, "second.passed"))["clock"]["problem"] is None
    monkeypatch.setattr(keeper, "LEAVE_ALONE_S", 0.0)
    async with running(config(nats, None)):
        await until(lambda: has_no_clock(nats))


def heard(said: list[str], capsys: pytest.CaptureFixture[str], words: str) -> bool:
    said.append(capsys.readouterr().out)
    return words in "".join(said)


async def test_reloads_in_quick_succession_leave_what_was_declared_last(nats, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(keeper, "PERIOD_S", 0.01)
    file = tmp_path / "walnatsd.yaml"
    file.write_text(config(nats))
    declarations: list[list[dict[str, Any]]] = [[EVERY_SECOND | {"every": "90s"}], [], [EVERY_SECOND | {"every": "1h"}]]
    async with running(file.read_text(), file=str(file)) as sidecar:
        for number in range(30):
            file.write_text(config(nats, None, *declarations[number % 3]))
            assert (await admin(sidecar, "POST", "reload"))[0] == 200
        await until(sidecar.is_ready)
        await until(lambda: only_one(nats))
        assert (await schedule(nats, "second-passed"))[1]["walnatsd-clock"] == "every 3600"
        file.write_text(config(nats))
        assert (await admin(sidecar, "POST", "reload"))[0] == 200
        await until(lambda: has_no_clock(nats))


async def test_nothing_is_created_changed_or_removed_where_the_config_forbids_it(nats, monkeypatch) -> None:
    monkeypatch.setattr(keeper, "PERIOD_S", 0.1)

    def strict(clock: dict[str, Any], *, create: bool = False) -> str:
        manage = {"manage": {"create": create, "update": False}}
        return config_text(nats.url, events=OWN, clocks=[clock], nats=manage)

    async with running(config_text(nats.url, events=OWN)):
        pass
    async with running(strict(EVERY_SECOND), ready=False) as sidecar:
        words = "the clock of second.passed is missing in NATS, and nats.manage.create is false"
        await until(lambda: has_problem(sidecar, words))
        async with running(config(nats, None, EVERY_SECOND | {"every": "1h"})):
            await until(sidecar.is_ready)
            words = "it is every 3600 in UTC, here it is every 1 s; nats.manage.update is false"
            assert (await event_status(sidecar, "second.passed"))["clock"]["drift"] == [words]
    async with running(strict(OWN_CLOCK, create=True)):
        await looked(nats)
        assert await is_there(nats, "second-passed")


async def has_problem(sidecar: Any, words: str) -> bool:
    return words in (await sidecar.readiness())[1].values()


async def test_deleting_an_event_deletes_its_clock(nats) -> None:
    async with running(config(nats, None, EVERY_SECOND, service={"name": "gone"})):
        pass
    async with running(config_text(nats.url)) as sidecar:
        assert await subjects(nats)
        status, _ = await admin(sidecar, "DELETE", "events/second.passed", confirm="second.passed")
        assert status == 204
        assert await has_no_clock(nats)


# ---- what is told


async def test_the_status_of_an_event_shows_its_clock(nats) -> None:
    clock = {"event": "second.passed", "cron": "0 12 * * MON-FRI", "timezone": "Europe/Berlin"}
    async with running(config(nats, None, clock)) as sidecar:
        shown = (await event_status(sidecar, "second.passed"))["clock"]
    following = dt.datetime.fromisoformat(shown.pop("next_tick_at")).astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
    assert (following.hour, following.minute, following.weekday() < 5) == (12, 0, True)
    assert following.timestamp() > time.time()
    assert shown == {
        "every": None, "cron": "0 12 * * MON-FRI", "timezone": "Europe/Berlin", "problem": None, "drift": [],
    }  # fmt: skip


async def test_walnatsd_status_shows_the_next_tick_and_what_is_wrong_with_a_clock(nats) -> None:
    theirs = config(nats, None, EVERY_SECOND | {"every": "1d"}, service={"name": "theirs"})
    ours = config(nats, None, EVERY_SECOND, service={"name": "ours"})
    async with running(theirs) as sidecar:
        shown = (await status(sidecar)).splitlines()
        assert shown[0].endswith("NEXT TICK")
        assert shown[1].endswith("T00:00:00.000000Z")
        async with running(ours) as other:
            assert "the clock of second.passed is not as it is declared: the service 'theirs'" in await status(other)
    async with running(config(nats)) as without:
        assert "TICK" not in await status(without)


async def status(sidecar: Any) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", "status", "--admin", f"http://{sidecar.admin}", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.mark.parametrize("version", ["2.12.8", "2.10.26"])
async def test_on_a_server_that_is_too_old_the_clock_is_a_problem_that_names_2_14_and_all_else_works(
    version: str, tmp_path, receiver
) -> None:
    async with nats_server(tmp_path / "nats", binary=binary_of(version)) as nats:
        file = tmp_path / "walnatsd.yaml"
        file.write_text(config(nats, receiver, EVERY_SECOND))
        async with running(file.read_text(), file=str(file), ready=False) as sidecar:
            await until(lambda: names_the_version(sidecar, version))
            await sidecar.emit("second.passed", "by hand")
            await receiver.wait_for(1)
            async with nats.jetstream() as jetstream:  # and what is deleted is still noticed
                await jetstream.delete_stream("second-passed")
                await until(lambda: exists(sidecar))
            shown = (await event_status(sidecar, "second.passed"))["clock"]
            assert "2.14" in shown["problem"]
            assert shown["next_tick_at"] is None
            file.write_text(config(nats, receiver, EVERY_SECOND | {"every": "2s"}))
            status, answer = await admin(sidecar, "POST", "reload")
            assert status == 400
            assert "clock of second.passed: clocks need nats-server 2.14" in answer["detail"]
            file.write_text(config(nats, receiver))
            assert (await admin(sidecar, "POST", "reload"))[0] == 200
            await until(sidecar.is_ready)
        assert [received.body for received in receiver.received] == [b"by hand"]


async def names_the_version(sidecar: Any, version: str) -> bool:
    _, problems = await sidecar.readiness()
    return problems == {
        "clock of second.passed": f"clocks need nats-server 2.14 or newer, and this one is {version}; update it, or take the "
        "clock out of the file"
    }


async def test_a_zone_that_nats_server_does_not_know_is_a_problem_of_the_clock(nats, tmp_path, monkeypatch) -> None:
    write_zone(tmp_path, "Tests/Here", before_s=0, after_s=3600, change_at=1_700_000_000)
    zoneinfo.reset_tzpath([str(tmp_path)])
    try:
        clock = {"event": "second.passed", "cron": "* * * * * *", "timezone": "Tests/Here"}
        async with running(config(nats, None, clock), ready=False) as sidecar:
            words = (
                "the NATS server does not know the time zone 'Tests/Here': its machine or image needs a time zone database "
                "(tzdata)"
            )
            await until(lambda: has_problem(sidecar, words))
    finally:
        zoneinfo.reset_tzpath()


async def test_while_ticks_can_not_be_stored_one_of_them_waits(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    event = {"limits": {"messages": 1, "when_full": "refuse"}}
    text = config(nats, receiver, EVERY_SECOND, event=event, actor={"retry": {"delays": [0.1], "max_attempts": None}})
    async with running(text) as sidecar:
        await until(lambda: several(sidecar, "EVENT_FULL", 3), timeout_s=30)
        async with nats.jetstream() as jetstream:
            body = json.dumps({"subjects_filter": f"{DUE}>"}).encode()
            state = (await jetstream._api_request("$JS.API.STREAM.INFO.walnatsd", body))["state"]
        assert state.get("subjects", {}) in ({}, {f"{DUE}second-passed": 1})
        receiver.answer = answers()
        await until(lambda: several(sidecar, "stored", 3), timeout_s=30)
    uids = [received.headers["walnats-uid"] for received in receiver.received if received.attempt == 1]
    assert len(set(uids)) == len(uids)


async def several(sidecar: Any, outcome: str, count: int) -> bool:
    return await due(sidecar, outcome) >= count


@pytest.mark.parametrize("version", ["2.12.8", "2.10.26"])
async def test_a_clock_ticks_once_the_server_is_new_enough(version: str, tmp_path, receiver, monkeypatch) -> None:
    monkeypatch.setattr(keeper, "PERIOD_S", 0.1)
    async with (
        nats_server(tmp_path / "nats", binary=binary_of(version)) as nats,
        running(config(nats, receiver, EVERY_SECOND), ready=False) as sidecar,
    ):
        await until(lambda: names_the_version(sidecar, version))
        await nats.stop()
        nats._binary = find_binary()
        await nats.start()
        await receiver.wait_for(2)
        await until(sidecar.is_ready)


async def exists(sidecar: Any) -> bool:
    return bool((await event_status(sidecar, "second.passed"))["exists"])


async def test_the_python_client_reads_ticks_as_times(nats) -> None:
    event = walnatsd_client.Event("second.passed", dt.datetime)
    seen: list[dt.datetime] = []
    actor = walnatsd_client.Actor("look", event, seen.append)
    text = config_text(
        nats.url, events=[{"name": "second.passed"}], actors=[{"name": "look", "event": "second.passed"}],
        clocks=[EVERY_SECOND],
    )  # fmt: skip
    async with running(text) as sidecar, walnatsd_client.connect(sidecar.grpc) as conn:
        listening = asyncio.create_task(conn.listen(actor))
        await until(lambda: seen)
        listening.cancel()
        await asyncio.wait([listening])
    assert seen[0].tzinfo is None
    assert seen[0].microsecond == 0
