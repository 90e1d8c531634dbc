"""Cron expressions, as nats-server understands them once they are spelled out.

An expression selects every instant whose wall time matches. So on the day that summer time begins there is no tick at a
wall time that is left out, and on the day that it ends there are two at a wall time that comes twice: nats-server's rule
(tried on 2.15.1, see tests/integration/test_clock_schedules.py).

nats-server takes 6 fields, seconds first. People write 5 or 6, 7 for Sunday and ranges like FRI-SUN; `Cron.spelled_out`
lists the values, so that nothing is left for the server to understand otherwise.
"""

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LONGEST_SEARCH_S = 10 * 366 * 86400
"""The 29th of February comes after eight years at the latest."""

_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NUMBER = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class _Unit:
    """What a field counts."""

    name: str
    first: int
    last: int
    names: Sequence[str] = ()


_UNITS = (
    _Unit("second", 0, 59),
    _Unit("minute", 0, 59),
    _Unit("hour", 0, 23),
    _Unit("day of the month", 1, 31),
    _Unit("month", 1, 12, _MONTHS),
    _Unit("day of the week", 0, 7, _WEEKDAYS),
)
_WEEKDAY = _UNITS[-1]


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that was read: the values that each field selects."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    """Of the month; None where the field is open (`*`)."""
    months: frozenset[int]
    weekdays: frozenset[int] | None
    """0 is Sunday; None where the field is open. Where both are given, a day that one of them selects is enough."""

    @property
    def spelled_out(self) -> str:
        """The expression for nats-server: 6 fields, numbers only."""
        fields: list[tuple[frozenset[int] | None, int]] = [
            (self.seconds, 60), (self.minutes, 60), (self.hours, 24), (self.days, 0), (self.months, 12), (self.weekdays, 0),
        ]  # fmt: skip
        return " ".join(
            "*" if values is None or len(values) == size else ",".join(map(str, sorted(values)))
            for values, size in fields
        )

    def _selects_day(self, day: dt.date) -> bool:
        if day.month not in self.months:
            return False
        in_month = self.days is not None and day.day in self.days
        in_week = self.weekdays is not None and day.isoweekday() % 7 in self.weekdays
        if self.days is None or self.weekdays is None:
            return (self.days is None or in_month) and (self.weekdays is None or in_week)
        return in_month or in_week

    def _mismatch(self, local: dt.datetime) -> str:
        """Name the coarsest unit in which a wall time is not selected; empty where it is."""
        if not self._selects_day(local):
            return "day"
        if local.hour not in self.hours:
            return "hour"
        if local.minute not in self.minutes:
            return "minute"
        return "" if local.second in self.seconds else "second"

    def floor(self, at: int, zone: dt.tzinfo) -> int:
        """Give the last instant that is selected, `at` included; all in seconds since the epoch.

        Raises:
            ValueError: There is none within ten years.
        """
        return self._search(at, zone, _to_the_end_of_the_one_before)

    def after(self, at: int, zone: dt.tzinfo) -> int:
        """Give the next instant that is selected, `at` not included; raises as `floor`."""
        return self._search(at + 1, zone, _to_the_next)

    def _search(self, at: int, zone: dt.tzinfo, step: Callable[[dt.datetime, str], int]) -> int:
        start = at
        while abs(at - start) <= LONGEST_SEARCH_S:
            local = dt.datetime.fromtimestamp(at, zone)
            unit = self._mismatch(local)
            if not unit:
                return at
            at = _stride(at, step(local, unit), local.utcoffset(), zone)
        raise ValueError("there is no tick within ten years")


def parse(text: str) -> Cron:
    """Read a cron expression of 5 or 6 fields.

    Raises:
        ValueError: It is none, or it selects no day that exists; in words.
    """
    fields = text.split()
    if len(fields) not in (5, 6):
        raise ValueError(
            "a cron expression has 5 fields (minute, hour, day of the month, month, day of the week) or 6, with the second "
            f"in front, like '0 12 * * MON-FRI'; this one has {len(fields)}"
        )
    if len(fields) == 5:
        fields = ["0", *fields]
    second, minute, hour, day, month, weekday = map(_values, fields, _UNITS)
    cron = Cron(
        seconds=second,
        minutes=minute,
        hours=hour,
        days=None if _is_open(fields[3]) else day,
        months=month,
        weekdays=None if _is_open(fields[5]) else frozenset(each % 7 for each in weekday),
    )
    if cron.days is not None and cron.weekdays is None and min(cron.days) > max(_DAYS_IN_MONTH[m - 1] for m in month):
        raise ValueError(f"never fires: no month of {fields[4]!r} has the day {fields[3]!r}")
    return cron


def _is_open(field: str) -> bool:
    """Whether a field of days restricts nothing. `*/2` restricts (as for nats-server and POSIX, unlike Vixie cron)."""
    return any(part in ("*", "?", "*/1", "?/1") for part in field.split(","))


def _values(field: str, unit: _Unit) -> frozenset[int]:
    return frozenset(value for part in field.split(",") for value in _part(part, unit))


def _part(part: str, unit: _Unit) -> range:
    """Read `*`, `7`, `MON`, `1-5`, and each of them with a step: `*/2`, `1-9/2`; `5/2` is from 5 on."""
    span, slash, step = part.partition("/")
    last_of_all = 6 if unit is _WEEKDAY else unit.last
    if slash and not (_NUMBER.fullmatch(step) and int(step)):
        raise ValueError(f"{unit.name} {part!r}: after the slash stands a step, a number from 1 on")
    first, dash, last = span.partition("-")
    if first in ("*", "?") and not dash:
        low, high = unit.first, last_of_all
    else:
        low = _value(first, unit, part)
        high = _value(last, unit, part) if dash else max(low, last_of_all) if slash else low
        if unit is _WEEKDAY and dash and high == 0 < low:
            high = 7
    if low > high:
        raise ValueError(f"{unit.name} {part!r}: the range ends before it begins; write it as two")
    return range(low, high + 1, int(step or 1))


def _value(text: str, unit: _Unit, part: str) -> int:
    if text.upper() in unit.names:
        return unit.names.index(text.upper()) + unit.first
    if not _NUMBER.fullmatch(text) or not unit.first <= int(text) <= unit.last:
        names = f" or one of {unit.names[0]} to {unit.names[-1]}" if unit.names else ""
        raise ValueError(f"{unit.name} {part!r}: should be a number from {unit.first} to {unit.last}{names}")
    return int(text)


# ---- how far a search goes at once: over the rest of the unit that is not selected


def _second_of(local: dt.datetime, unit: str) -> int:
    """How many seconds of its day, hour, minute or second have passed at a wall time."""
    minute = {"second": 0, "minute": 0}.get(unit, local.minute)
    hour = local.hour if unit == "day" else 0
    return hour * 3600 + minute * 60 + (0 if unit == "second" else local.second)


_LENGTHS_S = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


def _to_the_end_of_the_one_before(local: dt.datetime, unit: str) -> int:
    return -_second_of(local, unit) - 1


def _to_the_next(local: dt.datetime, unit: str) -> int:
    return _LENGTHS_S[unit] - _second_of(local, unit)


def _stride(at: int, stride_s: int, offset: dt.timedelta | None, zone: dt.tzinfo) -> int:
    """Go so many seconds on, but stop where the zone's offset from UTC changes: wall time jumps there."""
    target = at + stride_s
    if dt.datetime.fromtimestamp(target, zone).utcoffset() == offset:
        return target
    same, other = at, target
    while abs(other - same) > 1:
        middle = (same + other) // 2
        if dt.datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            same = middle
        else:
            other = middle
    return other
