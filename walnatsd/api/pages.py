"""Lists in pages, with opaque cursors."""

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

import orjson

from walnatsd.model.number import read_number
from walnatsd.model.refusal import Reason, Refusal

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
NO_CURSOR = "the cursor is none that this daemon gave"


def read_limit(text: str | None) -> int:
    """Read the `limit` of a list.

    Raises:
        Refusal: INVALID_REQUEST: it is no number from 1 to 500.
    """
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise Refusal(Reason.INVALID_REQUEST, f"limit is a number from 1 to {MAX_LIMIT}, not {text[:50]!r}")
    return int(text)


def check_limit(limit: int) -> int:
    """Return the limit of a list.

    Raises:
        Refusal: INVALID_REQUEST: it is not from 1 to 500.
    """
    return read_limit(str(limit))


def page_of(names: Sequence[T], *, limit: int, cursor: str | None) -> tuple[list[T], str | None]:
    """Cut a page out of a sorted list; gives it and the cursor of the next one.

    A cursor names the last item seen, so what comes and goes meanwhile shifts nothing.

    Raises:
        Refusal: INVALID_REQUEST: the cursor is none of ours.
    """
    if cursor is not None:
        last = read_cursor(cursor)
        names = [name for name in names if _comparable(name) > last]
    page = list(names[:limit])
    return page, write_cursor(_comparable(page[-1])) if len(names) > limit else None


def _comparable(name: object) -> list[str]:
    return [name] if isinstance(name, str) else list(name)  # type: ignore[call-overload]


def write_cursor(last: Sequence[str]) -> str:
    """Write a cursor that names the last item seen."""
    return base64.urlsafe_b64encode(orjson.dumps(list(last))).decode().rstrip("=")


def read_cursor(cursor: str) -> list[str]:
    """Read the name of the last item seen.

    Raises:
        Refusal: INVALID_REQUEST: the cursor is none of ours.
    """
    try:
        last = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        last = None
    if not isinstance(last, list) or not all(isinstance(part, str) for part in last):
        raise Refusal(Reason.INVALID_REQUEST, NO_CURSOR)
    return last


def read_numbers(cursor: str, count: int) -> list[int]:
    """Read a cursor that holds so many numbers, in decimal digits.

    Raises:
        Refusal: INVALID_REQUEST: the cursor is none of ours.
    """
    texts = read_cursor(cursor)
    numbers = [number for text in texts if (number := read_number(text)) is not None]
    if not len(texts) == len(numbers) == count:
        raise Refusal(Reason.INVALID_REQUEST, NO_CURSOR)
    return numbers
