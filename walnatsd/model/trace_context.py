"""W3C Trace Context and Baggage, as far as they are only passed on."""

import re
from collections.abc import Mapping

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"
NAMES = frozenset({TRACEPARENT, TRACESTATE, BAGGAGE})

_TRACEPARENT = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)  # Trace Context, section 3.2
_SAMPLED = 1
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
"""Ids that are none."""


def header_of(header: Mapping[str, str], name: str) -> str | None:
    """Find a header by its name in lower case; other emitters than walnatsd may have written it otherwise."""
    if (value := header.get(name)) is not None:
        return value
    return next((value for other, value in header.items() if other.lower() == name), None)


def ids_of(header: Mapping[str, str]) -> tuple[str, str] | None:
    """Give the ids of the trace that a message belongs to (32 hex digits) and of its span there (16); None where it says none."""
    found = _TRACEPARENT.fullmatch(header_of(header, TRACEPARENT) or "")
    return (found[1], found[2]) if found is not None else None


def trace_of(header: Mapping[str, str]) -> str | None:
    """Give the id of the trace that a message belongs to, 32 hex digits; None where it says of none."""
    ids = ids_of(header)
    return ids[0] if ids is not None else None


def is_left_out(header: Mapping[str, str]) -> bool:
    """Whether a message belongs to a trace that nobody keeps: who began it decided so, and its flags say it."""
    found = _TRACEPARENT.fullmatch(header_of(header, TRACEPARENT) or "")
    return found is not None and not int(found[3], 16) & _SAMPLED and found[1] != _NO_TRACE and found[2] != _NO_SPAN
