"""When a clock ticks. Instants are whole seconds since the epoch."""

import contextlib
import datetime as dt
import functools
import zoneinfo
from dataclasses import dataclass

from walnatsd.model.cron import Cron

UTC = "UTC"
NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})
"""Files of the time zone database that are no zones, or mean another one on every machine."""
DAY_S = 86400
WEEK_S = 7 * DAY_S
THURSDAY = 4
"""The first of January 1970 was one."""
MOST_SCHEDULES = 20
"""How many cron expressions a period may take."""


def open_zone(name: str) -> dt.tzinfo:
    """Give a time zone by its IANA name.

    Raises:
        ValueError: It is not known on this machine.
    """
    if name == UTC:
        return dt.UTC
    if name not in NO_ZONES and not name.startswith(("posix/", "right/")):
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            return zoneinfo.ZoneInfo(name)
    raise ValueError(f"the time zone {name!r} is not known here")


@dataclass(frozen=True, slots=True)
class Every:
    """Ticks at the multiples of a period since the epoch."""

    period_s: int
    zone = UTC

    def floor(self, at: int) -> int:
        """Give the last tick up to an instant."""
        return at - at % self.period_s

    def after(self, at: int) -> int:
        """Give the first tick after an instant."""
        return self.floor(at) + self.period_s

    @property
    def schedules(self) -> tuple[str, ...]:
        """The cron expressions that, taken together, tick then."""
        return crons_of_period(self.period_s)


@dataclass(frozen=True, slots=True)
class Wall:
    """Ticks at the wall times of a zone that a cron expression selects."""

    cron: Cron
    zone: str

    def floor(self, at: int) -> int:
        """Give the last tick up to an instant; raises ValueError where the zone is unknown or there is none."""
        return self.cron.floor(at, open_zone(self.zone))

    def after(self, at: int) -> int:
        """Give the first tick after an instant; raises as `floor`."""
        return self.cron.after(at, open_zone(self.zone))

    @property
    def schedules(self) -> tuple[str, ...]:
        """The cron expressions that, taken together, tick then."""
        return (self.cron.spelled_out,)


Rhythm = Every | Wall


@functools.lru_cache(maxsize=256)
def crons_of_period(period_s: int) -> tuple[str, ...]:
    """Give the cron expressions, in UTC, that select the multiples of a period since the epoch.

    nats-server's own `@every` counts from when the schedule was stored, and anew after every tick that it missed, so it
    can't be used. Cron expressions select times of day, so the period must fit into a day, or be a week. Where hours
    differ in their minutes, or minutes in their seconds, it takes several expressions: 90 s are second 0 of every third
    minute, and second 30 of the ones after them.

    Raises:
        ValueError: There are none.
    """
    if period_s == WEEK_S:
        return (f"0 0 0 * * {THURSDAY}",)
    found = _crons(period_s) if period_s > 0 and DAY_S % period_s == 0 else ()
    if not 0 < len(found) <= MOST_SCHEDULES:
        raise ValueError(
            "should be whole seconds that divide a day (30s, 5m, 6h, 1d), or 7d, to be aligned to the epoch; "
            f"{_near(period_s)}, or use cron"
        )
    return found


def _crons(period_s: int) -> tuple[str, ...]:
    hours: dict[int, list[int]] = {}
    for hour in range(24):
        hours.setdefault(-hour * 3600 % period_s, []).append(hour)  # by when the hour's first tick comes
    crons = []
    for first, of in hours.items():
        minutes: dict[int, list[int]] = {}
        for second_of_hour in range(first, 3600, period_s):
            minutes.setdefault(second_of_hour % 60, []).append(second_of_hour // 60)
        seconds: dict[tuple[int, ...], list[int]] = {}
        for second, minutes_of_it in minutes.items():
            seconds.setdefault(tuple(minutes_of_it), []).append(second)
        crons += [
            Cron(frozenset(each), frozenset(at), frozenset(of), None, frozenset(range(1, 13)), None).spelled_out
            for at, each in seconds.items()
        ]
    return tuple(crons)


def _near(period_s: int) -> str:
    fitting = [p for p in range(1, DAY_S + 1) if DAY_S % p == 0 and len(_crons(p)) <= MOST_SCHEDULES] + [WEEK_S]
    near = [
        max((p for p in fitting if p < period_s), default=None),
        min((p for p in fitting if p > period_s), default=None),
    ]
    return "near ones are " + " and ".join(f"{p}s" for p in near if p is not None)
