"""Periods of clocks: aligned to the epoch, and spelled out as cron expressions that tick at just these instants."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.model import cron, rhythm
from walnatsd.model.clock import Clock
from walnatsd.model.rhythm import Every, Wall, crons_of_period


def takes(period_s: int) -> bool:
    try:
        return bool(crons_of_period(period_s))
    except ValueError:
        return False


PERIODS = [period for period in range(1, 86401) if 86400 % period == 0 and takes(period)] + [7 * 86400]


@pytest.mark.parametrize("period_s", PERIODS)
def test_the_schedules_of_a_period_tick_at_its_multiples_and_at_no_other_time(period_s: int) -> None:
    schedules = [cron.parse(each) for each in crons_of_period(period_s)]
    now = 1_795_000_000 // period_s * period_s
    for _ in range(100):
        following = [each.after(now, dt.UTC) for each in schedules]
        now += period_s
        assert min(following) == now
        assert following.count(now) == 1, "two schedules tick at once"


def test_common_periods_take_one_schedule() -> None:
    assert crons_of_period(60) == ("0 * * * * *",)
    assert crons_of_period(15) == ("0,15,30,45 * * * * *",)
    assert crons_of_period(6 * 3600) == ("0 0 0,6,12,18 * * *",)
    assert crons_of_period(86400) == ("0 0 0 * * *",)
    assert crons_of_period(7 * 86400) == ("0 0 0 * * 4",)
    assert len(crons_of_period(90)) == 2


def test_nearly_all_periods_that_divide_a_day_are_taken() -> None:
    refused = [period for period in range(1, 86401) if 86400 % period == 0 and period not in PERIODS]
    assert refused == [27, 54, 64, 128, 384, 640, 864, 1152, 1728, 3456]


@pytest.mark.parametrize(
    ("every", "near"),
    [
        (7, "6s and 8s"), ("7m", "400s and 432s"), ("500ms", "near ones are 1s,"), (1.5, "near ones are 1s,"),
        (27, "25s and 30s"), ("2d", "86400s and 604800s"), ("30d", "604800s,"),
    ],
)  # fmt: skip
def test_a_period_that_the_server_can_not_align_is_refused_with_its_neighbours(every: object, near: str) -> None:
    with pytest.raises(ValueError, match="should be whole seconds that divide a day") as caught:
        Clock.model_validate({"event": "e", "every": every})
    assert near in str(caught.value)


@given(st.sampled_from(PERIODS), st.integers(0, 4102444800))
def test_a_period_is_aligned_to_the_epoch(period_s: int, now: int) -> None:
    every = Every(period_s)
    assert every.floor(now) <= now < every.after(now)
    assert every.floor(now) % period_s == every.after(now) % period_s == 0
    assert every.after(now) - every.floor(now) == period_s


def test_a_week_begins_on_a_thursday_as_the_epoch_did() -> None:
    assert dt.datetime.fromtimestamp(Every(7 * 86400).floor(1_795_000_000), dt.UTC).strftime("%a %T") == "Thu 00:00:00"


def test_a_cron_expression_is_read_in_its_zone() -> None:
    clock = Clock.model_validate({"event": "e", "cron": "0 12 * * MON-FRI", "timezone": "Europe/Berlin"})
    assert isinstance(clock.rhythm, Wall)
    friday = int(dt.datetime.fromisoformat("2026-07-10T13:00Z").timestamp())
    assert clock.rhythm.floor(friday) == int(dt.datetime.fromisoformat("2026-07-10T10:00Z").timestamp())
    assert clock.rhythm.after(friday) == int(dt.datetime.fromisoformat("2026-07-13T10:00Z").timestamp())


@pytest.mark.parametrize(
    ("zone", "remedy"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"), ("berlin", "did you mean Europe/Berlin?"),
        ("nowhere at all", "write an IANA name"), ("", "write an IANA name"), ("localtime", "write an IANA name"),
        ("right/Europe/Berlin", "did you mean Europe/Berlin?"), ("../../etc/passwd", "write an IANA name"),
        ("a\0b", "write an IANA name"), ("Local", "write an IANA name"), ("x" * 5000, "write an IANA name"),
    ],
)  # fmt: skip
def test_an_unknown_zone_is_refused_with_what_may_be_meant(zone: str, remedy: str) -> None:
    with pytest.raises(ValueError, match="is not known here") as caught:
        Clock.model_validate({"event": "e", "cron": "* * * * *", "timezone": zone})
    assert remedy in str(caught.value)


def test_a_machine_without_zones_says_so_and_knows_utc_all_the_same(monkeypatch) -> None:
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    assert Clock.model_validate({"event": "e", "every": 60}).rhythm == Every(60)
    with pytest.raises(ValueError, match="this machine has no time zone database: install tzdata"):
        Clock.model_validate({"event": "e", "every": 60, "timezone": "Mars/Olympus"})
    assert rhythm.open_zone("UTC") is dt.UTC
