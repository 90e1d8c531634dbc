"""A clock: an event that time itself emits."""

from pydantic import model_validator

from walnatsd.model.declared import Declared
from walnatsd.model.names import EventName
from walnatsd.model.units import PositiveDuration


class Clock(Declared):
    """A periodic event."""

    event: EventName
    """The event to emit."""
    every: PositiveDuration | None = None
    """Period, aligned to the epoch."""
    cron: str | None = None
    """Cron expression of 5 or 6 fields, instead of `every`."""
    timezone: str = "UTC"
    """Zone of the cron expression and of the payload."""

    @model_validator(mode="after")
    def _one_rhythm(self) -> "Clock":
        if (self.every is None) == (self.cron is None):
            raise ValueError("give either every: 60s or cron: '0 12 * * MON-FRI'")
        return self
