"""Cron expressions: what is read, what is refused, and which instants are selected, also where wall time jumps."""

import datetime as dt
import zoneinfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from walnatsd.model import cron
from walnatsd.model.cron import Cron

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
LORD_HOWE = zoneinfo.ZoneInfo("Australia/Lord_Howe")  # summer time is half an hour
SANTIAGO = zoneinfo.ZoneInfo("America/Santiago")  # midnight is left out
CASABLANCA = zoneinfo.ZoneInfo("Africa/Casablanca")  # two changes within a month


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())


def ticks(text: str, zone: dt.tzinfo, begin: str, end: str) -> list[str]:
    """The instants from `begin` up to `end`, as wall times with their offset."""
    expression, found, now = cron.parse(text), [], at(begin) - 1
    while (now := expression.after(now, zone)) < at(end):
        found.append(dt.datetime.fromtimestamp(now, zone).isoformat())
    return found


@pytest.mark.parametrize(
    ("text", "spelled_out"),
    [
        ("0 12 * * MON-FRI", "0 0 12 * * 1,2,3,4,5"),
        ("30 0 12 * * MON-FRI", "30 0 12 * * 1,2,3,4,5"),
        ("* * * * *", "0 * * * * *"),
        ("* * * * * *", "* * * * * *"),
        ("0-59 0-23 * * ?", "0 * * * * *"),
        ("*/20 * * * *", "0 0,20,40 * * * *"),
        ("40/10 * * * *", "0 40,50 * * * *"),
        ("1-9/4,59 * * * *", "0 1,5,9,59 * * * *"),
        ("0 0 * jan,Mar-MAY *", "0 0 0 * 1,3,4,5 *"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 * * FRI-SUN", "0 0 0 * * 0,5,6"),
        ("0 0 * * SUN-TUE", "0 0 0 * * 0,1,2"),
        ("0 0 * * 1/2", "0 0 0 * * 1,3,5"),
        ("0 0 * * */3", "0 0 0 * * 0,3,6"),
        (
            "0 0 1-31 * MON",
            "0 0 0 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31 * 1",
        ),
        ("  0\t0 29 2 *  ", "0 0 0 29 2 *"),
    ],
)
def test_an_expression_is_spelled_out_for_the_server(text: str, spelled_out: str) -> None:
    assert cron.parse(text).spelled_out == spelled_out
    assert cron.parse(spelled_out) == cron.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "5 fields .* or 6, .* this one has 0"),
        ("@daily", "this one has 1"),
        ("* * * * * * *", "this one has 7"),
        ("60 * * * *", "minute '60': should be a number from 0 to 59"),
        ("* 24 * * *", "hour '24': should be a number from 0 to 23"),
        ("* * 0 * *", "day of the month '0': should be a number from 1 to 31"),
        ("* * * 13 *", "month '13': should be a number from 1 to 12 or one of JAN to DEC"),
        ("* * * * 8", "day of the week '8': should be a number from 0 to 7 or one of SUN to SAT"),
        ("* * * * FUN", "day of the week 'FUN'"),
        ("* * L * *", "day of the month 'L'"),
        ("* * * * 5#2", "day of the week '5#2'"),
        ("-1 * * * *", "minute '-1'"),
        ("1- * * * *", "minute '1-'"),
        ("*-5 * * * *", "minute '\\*-5'"),
        ("1,,2 * * * *", "minute ''"),
        ("30-20 * * * *", "the range ends before it begins"),
        ("*/0 * * * *", "after the slash stands a step"),
        ("*/ * * * *", "after the slash stands a step"),
        ("*/2/2 * * * *", "after the slash stands a step"),
        ("٣ * * * *", "minute '٣'"),
        ("0 0 30 2 *", "never fires: no month of '2' has the day '30'"),
        ("0 0 31 2,4,6,9,11 *", "never fires"),
    ],
)
def test_what_is_no_expression_or_never_fires_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cron.parse(text)


def test_of_two_days_that_are_given_one_is_enough() -> None:
    """Every 13th and every Friday, as in crontab(5)."""
    assert [day[:10] for day in ticks("0 0 13 * FRI", dt.UTC, "2026-11-01T00:00Z", "2026-11-22T00:00Z")] == [
        "2026-11-06", "2026-11-13", "2026-11-20",
    ]  # fmt: skip
    assert [day[:10] for day in ticks("0 0 14 * FRI", dt.UTC, "2026-11-07T00:00Z", "2026-11-22T00:00Z")] == [
        "2026-11-13", "2026-11-14", "2026-11-20",
    ]  # fmt: skip
    assert cron.parse("0 0 30 2 MON").floor(at("2026-11-25T00:00Z"), dt.UTC) == at("2026-02-23T00:00Z")


def test_leap_days_are_found_over_eight_years() -> None:
    leap_day = cron.parse("0 0 29 2 *")
    assert leap_day.after(at("2096-03-01T00:00Z"), dt.UTC) == at("2104-02-29T00:00Z")
    assert leap_day.floor(at("2104-02-28T00:00Z"), dt.UTC) == at("2096-02-29T00:00Z")


def test_a_wall_time_that_is_left_out_has_no_tick() -> None:
    assert ticks("30 2 * * *", BERLIN, "2026-03-28T00:00Z", "2026-03-31T00:00Z") == [
        "2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00",
    ]  # fmt: skip
    assert ticks("0 * * * *", BERLIN, "2026-03-29T00:00Z", "2026-03-29T03:00Z") == [
        "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00",
    ]  # fmt: skip
    assert ticks("0 0 * * *", SANTIAGO, "2026-09-05T00:00Z", "2026-09-08T00:00Z") == [
        "2026-09-05T00:00:00-04:00", "2026-09-07T00:00:00-03:00",
    ]  # fmt: skip


def test_a_wall_time_that_comes_twice_has_two_ticks() -> None:
    assert ticks("30 2 * * *", BERLIN, "2026-10-24T12:00Z", "2026-10-26T12:00Z") == [
        "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00",
    ]  # fmt: skip
    assert ticks("*/15 1 * * *", LORD_HOWE, "2026-04-04T12:00Z", "2026-04-05T12:00Z") == [
        "2026-04-05T01:00:00+11:00", "2026-04-05T01:15:00+11:00", "2026-04-05T01:30:00+11:00", "2026-04-05T01:45:00+11:00",
        "2026-04-05T01:30:00+10:30", "2026-04-05T01:45:00+10:30",
    ]  # fmt: skip


def values(first: int, last: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(first, last), min_size=1, max_size=4) | st.just(frozenset(range(first, last + 1)))


CRONS = st.builds(
    Cron,
    seconds=values(0, 59),
    minutes=values(0, 59),
    hours=values(0, 23),
    days=st.none() | values(1, 28),
    months=st.just(frozenset(range(1, 13))) | st.just(frozenset({3, 10})),
    weekdays=st.none() | values(0, 6),
)
CHANGES = [  # every zone with an instant at which its wall time jumps
    (BERLIN, at("2026-03-29T01:00Z")), (BERLIN, at("2026-10-25T01:00Z")),
    (LORD_HOWE, at("2026-10-03T15:30Z")), (LORD_HOWE, at("2026-04-04T15:00Z")),
    (SANTIAGO, at("2026-09-06T04:00Z")), (SANTIAGO, at("2026-04-05T03:00Z")),
    (CASABLANCA, at("2026-02-15T02:00Z")), (CASABLANCA, at("2026-03-22T02:00Z")),
    (zoneinfo.ZoneInfo("Pacific/Apia"), at("2011-12-30T10:00Z")),  # a whole day is left out
]  # fmt: skip


def selects(each: Cron, local: dt.datetime) -> bool:
    """The rule, said once more and otherwise."""
    of_day = [local.day in each.days] if each.days is not None else []
    of_day += [(local.weekday() + 1) % 7 in each.weekdays] if each.weekdays is not None else []
    return (
        local.month in each.months
        and (not of_day or any(of_day))
        and (local.hour in each.hours and local.minute in each.minutes and local.second in each.seconds)
    )


@settings(max_examples=60, deadline=None)
@given(CRONS, st.sampled_from(CHANGES), st.integers(-7200, 7200))
@example(cron.parse("30 2 * * *"), (BERLIN, at("2026-10-25T01:00Z")), 0)
def test_around_a_change_the_ticks_are_just_the_instants_whose_wall_time_is_selected(
    each: Cron, change: tuple[dt.tzinfo, int], away: int
) -> None:
    zone, now = change[0], change[1] + away
    span = range(now - 5400, now + 5400)
    selected = [i for i in span if selects(each, dt.datetime.fromtimestamp(i, zone))]
    before = [i for i in selected if i <= now]
    behind = [i for i in selected if i > now]
    floor, after = each.floor(now, zone), each.after(now, zone)
    assert floor == before[-1] if before else floor < span[0]
    assert after == behind[0] if behind else after > span[-1]


@settings(max_examples=200, deadline=None)
@given(CRONS, st.sampled_from([zone for zone, _ in CHANGES]), st.integers(0, 4102444800))
def test_a_floor_and_the_tick_after_are_neighbours(each: Cron, zone: dt.tzinfo, now: int) -> None:
    floor, after = each.floor(now, zone), each.after(now, zone)
    assert floor <= now < after
    assert each.after(floor, zone) == after
    assert each.floor(after - 1, zone) == floor
    assert each.floor(floor, zone) == floor
    for found in (floor, after):
        assert selects(each, dt.datetime.fromtimestamp(found, zone))
