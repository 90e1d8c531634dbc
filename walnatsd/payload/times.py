"""Clock ticks: what they say, and which of them an actor handles."""

import datetime as dt

from walnatsd.model.actor import MatchTime

CONTENT_TYPE = "text/plain"
"""Of a tick: without quotes it is no JSON."""


def tick_text(at: int, zone: dt.tzinfo) -> bytes:
    """Write the payload of a clock event as the walnats library does: naive ISO 8601 text, the wall time of the zone.

    Args:
        at: The instant, in seconds since the epoch.
        zone: The clock's.
    """
    return dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None).isoformat().encode()


def tick_of(payload: bytes) -> dt.datetime:
    """Read the payload of a clock event: naive ISO 8601 text, as the walnats library writes it, or the same in quotes.

    Raises:
        ValueError: It is something else.
    """
    try:
        return dt.datetime.fromisoformat(payload.decode().strip().strip('"'))
    except ValueError:
        raise ValueError(f"match_time: the payload is no ISO 8601 time: {payload[:60]!r}") from None


def matches(pattern: MatchTime, tick: dt.datetime) -> bool:
    """Say whether a tick fits: each part that is given lists the tick's."""
    return (
        (not pattern.year or tick.year in pattern.year)
        and (not pattern.month or tick.month in pattern.month)
        and (not pattern.day or tick.day in pattern.day)
        and (not pattern.hour or tick.hour in pattern.hour)
        and (not pattern.minute or tick.minute in pattern.minute)
    )
