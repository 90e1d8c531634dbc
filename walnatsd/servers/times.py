"""Durations and times, as callers write them."""

import datetime as dt
import math
import re

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from walnatsd.model.refusal import Reason, Refusal
from walnatsd.model.units import parse_duration

_NANOSECONDS = 1_000_000_000
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # section 5.6


def duration_s(duration: Duration) -> float:
    """Read a duration, in seconds; NaN where it is malformed."""
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) >= _NANOSECONDS or seconds * nanos < 0:
        return math.nan
    return float(seconds + nanos / _NANOSECONDS)


def instant_s(timestamp: Timestamp) -> float:
    """Read a time, in seconds since the epoch; NaN where it is malformed."""
    if not 0 <= timestamp.nanos < _NANOSECONDS:
        return math.nan
    return float(timestamp.seconds + timestamp.nanos / _NANOSECONDS)


def read_duration(name: str, text: str) -> float:
    """Read a parameter that is a duration as people write it, in seconds.

    Raises:
        Refusal: INVALID_TIME.
    """
    try:
        return float(parse_duration(text))  # type: ignore[arg-type]  # of text it makes a number
    except ValueError as error:
        raise Refusal(Reason.INVALID_TIME, f"{name}: {error}; this one is {text[:50]!r}") from None


def read_instant(text: str) -> float:
    """Read a time in RFC 3339, in seconds since the epoch.

    Raises:
        Refusal: INVALID_TIME.
    """
    seconds = _seconds(text)
    if seconds is None:
        hint = " (write the + of the zone as %2B)" if re.search(r" \d\d:\d\d$", text) else ""
        raise Refusal(
            Reason.INVALID_TIME,
            f"deliver_at is a time with its zone, like 2030-01-31T08:00:00Z, not {text[:50]!r}{hint}",
        )
    return seconds


def _seconds(text: str) -> float | None:
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    day, time, fraction, zone = match.groups()
    try:
        whole = dt.datetime.fromisoformat(f"{day}T{time}{zone.upper()}").timestamp()
    except ValueError:
        return None  # there is no such day or hour
    return whole + float(f"0.{fraction or 0}")
