"""A clock: an event that time itself emits."""

import difflib
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, model_validator

from walnatsd.model import cron
from walnatsd.model.declared import Declared
from walnatsd.model.names import EventName, stream_name
from walnatsd.model.rhythm import NO_ZONES, UTC, Every, Rhythm, Wall, crons_of_period, open_zone
from walnatsd.model.units import PositiveDuration


def _check_period(period_s: float) -> float:
    crons_of_period(int(period_s) if period_s.is_integer() else 0)
    return period_s


def _check_cron(text: str) -> str:
    cron.parse(text)
    return text


def _check_zone(name: str) -> str:
    try:
        open_zone(name)
    except ValueError as error:
        raise ValueError(f"{error}; {_remedy(name)}") from None
    return name


def _remedy(name: str) -> str:
    known = zoneinfo.available_timezones() - NO_ZONES
    if not known:
        return "this machine has no time zone database: install tzdata"
    cities = [zone for zone in known if zone.rpartition("/")[2].lower() == name.rpartition("/")[2].lower()]
    close = sorted(cities, key=len, reverse=True) or difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else "write an IANA name like Europe/Berlin, or UTC"


class Clock(Declared):
    """A periodic event. nats-server keeps the time, so ticks come while no sidecar runs, and need nats-server 2.14."""

    event: EventName
    """The event to emit."""
    every: Annotated[PositiveDuration, AfterValidator(_check_period)] | None = None
    """Period, aligned to the epoch: whole seconds that divide a day, or 7d."""
    cron: Annotated[str, AfterValidator(_check_cron)] | None = None
    """Cron expression of 5 or 6 fields (seconds first), instead of `every`."""
    timezone: Annotated[str, AfterValidator(_check_zone)] = UTC
    """Zone of the cron expression and of the payload."""

    @model_validator(mode="after")
    def _one_rhythm(self) -> "Clock":
        if (self.every is None) == (self.cron is None):
            raise ValueError("give either every: 60s or cron: '0 12 * * MON-FRI'")
        return self

    @property
    def stream(self) -> str:
        """Name of the event's stream."""
        return stream_name(self.event)

    @property
    def rhythm(self) -> Rhythm:
        """When it ticks."""
        if self.cron is not None:
            return Wall(cron.parse(self.cron), self.timezone)
        assert self.every is not None
        return Every(int(self.every))

    def __str__(self) -> str:
        """Say when it ticks, as the config file does."""
        if self.cron is not None:
            return f"cron {self.cron!r} in {self.timezone}"
        return f"every {self.every:g} s" + (f" in {self.timezone}" if self.timezone != UTC else "")
