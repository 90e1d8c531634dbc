"""What nats-server does with the schedules of clocks: when it fires, what comes of what it missed, and what it refuses.

The instants at which it fires are compared with `model.cron`, which must know them: the uid of a tick is one of them.
"""

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator

import pytest

from support.broker import Broker, broker
from support.nats_server import NatsServer, binary_of, nats_server
from support.waiting import until
from support.zones import write_zone
from walnatsd.broker import inspection, own_streams
from walnatsd.broker.clock_schedules import ClockSchedules, schedules_of
from walnatsd.broker.inspection import Stored
from walnatsd.broker.own_streams import WORK
from walnatsd.model import cron
from walnatsd.model.clock import Clock
from walnatsd.model.refusal import Reason, Refusal


@contextlib.asynccontextmanager
async def parts_on(server: NatsServer) -> AsyncIterator[tuple[Broker, ClockSchedules]]:
    async with broker(server.url) as parts:
        await own_streams.register_work_stream(parts.jetstream, replicas=1)
        yield parts, ClockSchedules(parts.connection, parts.jetstream)


async def fired(parts: Broker) -> list[Stored]:
    """All that lies among what is due, oldest first."""
    state = (await parts.jetstream.request(f"STREAM.INFO.{WORK}"))["state"]
    found = [
        await inspection.stored_message(parts.jetstream, WORK, {"seq": sequence})
        for sequence in range(state["first_seq"], state["last_seq"] + 1)
    ]
    return [each for each in found if each is not None and each.subject.startswith("walnatsd.due.")]


def clock(**options: object) -> Clock:
    return Clock.model_validate({"event": "minute.passed"} | options)


async def write(schedules: ClockSchedules, declared: Clock) -> None:
    for subject, schedule in schedules_of(declared, "tests", encoded=False).items():
        assert await schedules.write(subject, schedule, over=None)


SHIFTS = {"Tests/Spring": 3600, "Tests/Autumn": -3600, "Tests/HalfSpring": 1800, "Tests/HalfAutumn": -1800}
"""Zones whose wall time jumps by so many seconds; all at the same instant, which was a full hour before it jumped."""


async def test_the_server_fires_when_the_wall_time_is_selected_also_where_it_jumps(tmp_path, monkeypatch) -> None:
    """On the minute, because nats-server writes offsets from UTC in minutes (`Nats-Schedule-Next`).

    Where half an hour is left out or comes twice, as on Lord Howe Island alone, nats-server 2.15 takes the rest of an hour
    that is selected for the whole of it; that is not asked for here.
    """
    monkeypatch.setenv("ZONEINFO", str(tmp_path / "zones"))
    async with nats_server(tmp_path / "nats") as server, parts_on(server) as (parts, _):
        change_at = (int(time.time()) + 8) // 60 * 60 + 60
        before_s = 3600 * 5 - change_at % 3600
        zones = {
            name: write_zone(tmp_path / "zones", name, before_s=before_s, after_s=before_s + by_s, change_at=change_at)
            for name, by_s in SHIFTS.items()
        }
        cases = [
            (name, cron.parse(f"57,58,0,1,3 * {hours} * * *"))
            for name, zone in zones.items()
            for hours in ("*", *(str(dt.datetime.fromtimestamp(at, zone).hour) for at in (change_at - 1, change_at)))
            if hours == "*" or "Half" not in name
        ]
        async with server.jetstream() as jetstream:
            for number, (name, expression) in enumerate(cases):
                header = {"Nats-Schedule": expression.spelled_out, "Nats-Schedule-Time-Zone": name}
                await jetstream.publish(
                    f"walnatsd.schedule.{number}", headers={"Nats-Schedule-Target": f"walnatsd.due.{number}"} | header
                )
        begin, end = int(time.time()) + 1, change_at + 4
        await until(lambda: time.time() > end + 1, timeout_s=90)
        found = [each for each in await fired(parts) if begin < int(each.stored_at) < end]
    for number, (name, expression) in enumerate(cases):
        of_it = [each for each in found if each.subject == f"walnatsd.due.{number}"]
        assert [int(each.stored_at) for each in of_it] == ticks(expression, zones[name], begin, end), (name, expression)
        for each in of_it:
            following = dt.datetime.fromisoformat(each.headers["Nats-Schedule-Next"])
            assert int(following.timestamp()) == expression.after(int(each.stored_at), zones[name]), (name, expression)


def ticks(expression: cron.Cron, zone: dt.tzinfo, after: int, before: int) -> list[int]:
    found, now = [], after
    while (now := expression.after(now, zone)) < before:
        found.append(now)
    return found


async def test_what_was_missed_while_the_server_was_away_fires_once(tmp_path) -> None:
    async with nats_server(tmp_path / "nats") as server:
        async with parts_on(server) as (parts, schedules):
            await write(schedules, clock(cron="* * * * * *"))
            before = await until(lambda: fired(parts))
            await server.kill()
            await asyncio.sleep(4)  # ticks pass; no condition tells
            await server.start()
            await parts.connection.wait_connected()
            after = await until(lambda: newer(parts, before[-1]))
        [one] = after
        assert int(one.stored_at) >= int(before[-1].stored_at) + 4


async def newer(parts: Broker, than: Stored) -> list[Stored]:
    return [each for each in await fired(parts) if each.sequence > than.sequence]


async def test_of_the_ticks_that_nobody_fetches_the_last_one_is_left(nats) -> None:
    async with parts_on(nats) as (parts, schedules):
        await write(schedules, clock(every="1s"))
        await write(schedules, clock(event="other", every="1s"))
        first = await until(lambda: fired(parts))
        await until(lambda: first_is_gone(parts, first[0]))
        subjects = [each.subject for each in await fired(parts)]
    assert sorted(subjects) == ["walnatsd.due.walnatsd-clock.minute-passed", "walnatsd.due.walnatsd-clock.other"]


async def first_is_gone(parts: Broker, first: Stored) -> bool:
    found = await fired(parts)
    return len(found) == 2 and first.sequence not in [each.sequence for each in found]


async def test_a_period_of_several_schedules_fires_at_each_of_its_multiples(nats) -> None:
    """All schedules of a clock fire to one subject; a period of 12 s, spelled out otherwise, takes one for every second."""
    async with parts_on(nats) as (parts, schedules):
        header = next(iter(schedules_of(clock(every="1s"), "", encoded=False).values()))
        for number in range(0, 60, 2):
            subject = f"walnatsd.schedule.walnatsd-clock.minute-passed.{number}"
            assert await schedules.write(subject, {**header, "Nats-Schedule": f"{number} * * * * *"}, over=None)
        seen: set[int] = set()
        await until(lambda: gather(parts, seen, 4))
    assert all(at % 2 == 0 for at in seen)
    assert max(seen) - min(seen) == 2 * (len(seen) - 1)


async def gather(parts: Broker, seen: set[int], count: int) -> bool:
    seen.update(int(each.stored_at) for each in await fired(parts))
    return len(seen) >= count


async def test_schedules_are_read_as_they_were_written(nats) -> None:
    declared = clock(cron="0 12 * * MON-FRI", timezone="Europe/Berlin")
    wanted = schedules_of(declared, "Füße & co\r\nNats-Schedule-TTL: 1s", encoded=True)
    async with parts_on(nats) as (_, schedules):
        assert await schedules.all() == {}
        for subject, schedule in wanted.items():
            assert await schedules.write(subject, schedule, over=None)
            assert not await schedules.write(subject, schedule, over=None)  # somebody was faster
        found = (await schedules.all())["minute-passed"]
        assert found.keys() == wanted.keys()
        for subject, stored in found.items():
            assert {name: stored.headers[name] for name in wanted[subject]} == wanted[subject]
            assert await schedules.write(subject, wanted[subject], over=stored)
            assert not await schedules.write(subject, wanted[subject], over=stored)
        await schedules.remove("minute-passed")
        assert await schedules.all() == {}
        for subject, schedule in wanted.items():  # at once, within the stream's duplicate window
            assert await schedules.write(subject, schedule, over=None)


async def test_trying_out_writes_nothing(nats) -> None:
    async with parts_on(nats) as (_, schedules):
        await schedules.try_out(schedules_of(clock(every="90s"), "", encoded=False))
        assert await schedules.all() == {}


async def test_a_server_that_is_too_old_says_which_one_is_needed(tmp_path) -> None:
    async with nats_server(tmp_path / "nats", binary=binary_of("2.12.8")) as server, parts_on(server) as (_, schedules):
        wanted = schedules_of(clock(every="1s"), "", encoded=False)
        with pytest.raises(Refusal, match=r"clocks need nats-server 2\.14 or newer, and this one is 2\.12\.8") as tried:
            await schedules.try_out(wanted)
        with pytest.raises(Refusal, match=r"2\.14") as written:
            await schedules.write(*next(iter(wanted.items())), over=None)
        assert tried.value.reason == written.value.reason == Reason.SERVER_VERSION


async def test_a_zone_that_only_the_server_does_not_know_is_its_lack_of_a_database(nats) -> None:
    declared = clock(cron="0 12 * * *", timezone="Europe/Berlin")
    wanted = {
        subject: {**schedule, "Nats-Schedule-Time-Zone": "Europe/Atlantis"}
        for subject, schedule in schedules_of(declared, "", encoded=False).items()
    }
    async with parts_on(nats) as (_, schedules):
        with pytest.raises(
            Refusal, match=r"does not know the time zone 'Europe/Atlantis': .* needs a time zone database"
        ):
            await schedules.try_out(wanted)
