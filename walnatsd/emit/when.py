"""When a message is handed to actors, and whether anybody can promise that."""

import math

from walnatsd.emit.request import EmitRequest
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal

LONGEST_S = 365 * 86400.0
"""A year; what is further ahead belongs into a database."""
_FIRST_YEAR, _YEAR_10000 = -62_135_596_800.0, 253_402_300_800.0
"""The times that RFC 3339 and protobuf can express, in seconds since the epoch."""


def due_at(request: EmitRequest, event: Event, *, now: float, uid: str) -> float | None:
    """Give until when nobody may handle a delayed message, in seconds since the epoch; None where that is over.

    Raises:
        Refusal: INVALID_TIME; INVALID_REQUEST: an expected sequence can't be kept for later.
    """
    try:
        at = _instant(request, now)
        if request.expected_last_sequence is not None:
            raise Refusal(
                Reason.INVALID_REQUEST,
                "expected_last_sequence goes with neither delay nor deliver_at: nobody knows the sequence of a later time",
                uid=uid,
            )
        _check_wait(at - now, event)
    except ValueError as error:
        raise Refusal(Reason.INVALID_TIME, str(error), uid=uid) from None
    return at if at > now else None


def _instant(request: EmitRequest, now: float) -> float:
    """Give the time that is meant; raises ValueError."""
    delay_s, at = request.delay_s, request.deliver_at
    if delay_s is not None and at is not None:
        raise ValueError("give either delay or deliver_at")
    if delay_s is not None:
        if not math.isfinite(delay_s) or delay_s < 0:
            raise ValueError(f"delay is a finite number of seconds, not below zero; this one is {delay_s:g}")
        return now + delay_s
    if at is None or not _FIRST_YEAR <= at < _YEAR_10000:  # a NaN is in no range
        raise ValueError("deliver_at is a time of the years 1 to 9999")
    return at


def _check_wait(wait_s: float, event: Event) -> None:
    if wait_s > LONGEST_S:
        raise ValueError(f"at most a year ahead; this is {wait_s / 86400:.1f} days ahead")
    age = event.limits.age
    if age is not None and wait_s > age:
        raise ValueError(
            f"{wait_s:.0f} s ahead is longer than the event keeps a message (limits.age of {event.name!r}: {age:g} s)"
        )
