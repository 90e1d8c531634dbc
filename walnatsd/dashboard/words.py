"""How numbers, times and foreign text are written on the pages."""

import re
import time
import unicodedata
from collections.abc import Mapping
from typing import Any

from walnatsd.payload.cloudevents import rfc3339

UNKNOWN = "\N{EN DASH}"
MOST_SHOWN_BYTES = 16 << 10
"""Of a payload; all of it can be downloaded."""
_BINARY_SHOWN_BYTES = 512
_ROW = 16
_KEPT = frozenset("\n\t")
_BREAK = re.compile(r"\r\n?")


def seconds(amount: float | None) -> str:
    """Write a length of time with about two digits that matter."""
    if amount is None:
        return UNKNOWN
    if amount < 1:
        return f"{amount * 1000:.3g} ms"
    for unit, size in (("s", 60), ("min", 60), ("h", 48)):
        if amount < size:
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
        amount /= 24 if unit == "h" else 60
    return f"{amount:.0f} d"


def size(amount: int | None) -> str:
    """Write a number of bytes."""
    if amount is None:
        return UNKNOWN
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count(amount: int | None) -> str:
    """Write a whole number, thousands apart."""
    return UNKNOWN if amount is None else f"{amount:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rate(per_s: float) -> str:
    """Write how often something happens."""
    if per_s <= 0:
        return "0"
    return f"{per_s:.3g}/s" if per_s >= 1 else f"{per_s * 60:.3g}/min"


def ago(at: float | None) -> str:
    """Write how long ago a moment was, given in seconds since the epoch."""
    return UNKNOWN if at is None else f"{seconds(max(0.0, time.time() - at))} ago"


def moment(at: float) -> str:
    """Write a moment, given in seconds since the epoch."""
    return rfc3339(at)


def visible(text: object) -> str:
    """Write foreign text so that it can't pass for anything else.

    Signs without a shape and those that turn the direction of writing are written as their codes. What HTML would read, the
    template escapes.
    """
    return "".join(
        sign if sign in _KEPT or not unicodedata.category(sign).startswith("C") else _code(sign)
        for sign in _BREAK.sub("\n", str(text))
    )


def _code(sign: str) -> str:
    number = ord(sign)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def payload(body: bytes) -> tuple[str, str]:
    """Give the beginning of a payload to be shown, and how it is written: `text` or `hexadecimal`."""
    if not _is_text(body):
        return _dump(body[:_BINARY_SHOWN_BYTES]), "hexadecimal"
    return visible(body[:MOST_SHOWN_BYTES].decode(errors="ignore")), "text"


def is_cut(body: bytes) -> bool:
    """Whether `payload` does not show all of it."""
    return len(body) > (MOST_SHOWN_BYTES if _is_text(body) else _BINARY_SHOWN_BYTES)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _dump(body: bytes) -> str:
    rows = (body[start : start + _ROW] for start in range(0, len(body), _ROW))
    return "\n".join(f"{number * _ROW:04x}  {row.hex(' ')}" for number, row in enumerate(rows))


def attempts_in(history: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Give the attempts of a history. Anybody may have written it, so what is no attempt is left out."""
    attempts = history.get("attempts") if history is not None else None
    return [each for each in attempts if isinstance(each, dict)] if isinstance(attempts, list) else []
