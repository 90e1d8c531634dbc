"""The key that orders a message: a value in its JSON payload, or a header."""

import hashlib
import re
from typing import Any

import orjson

from walnatsd.model.actor import OrderHeader
from walnatsd.model.message import Message

_MISSING = object()
_LONGEST_KEY = 128
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_EXACT = 2.0**53
"""Beyond, neighbouring floats are further apart than one, so nobody means a whole number by them."""


def order_key(order_by: str | OrderHeader, message: Message) -> str | None:
    """Give the key of a message as the actor sees it; None where it has none and is thus unordered.

    Equal keys are equal JSON values: `1` and `1.0` are one key, `1` and `"1"` are two, and the members of an object may
    stand in any order. Long keys are digested, so that they cost nothing to hold.

    Args:
        order_by: A JSON pointer that begins with `/` (RFC 6901), or the name of a header in any case.
        message: The message with its payload decoded.
    """
    key = _header(order_by.header, message) if isinstance(order_by, OrderHeader) else _pointed(order_by, message)
    if key is not None and len(key) > _LONGEST_KEY:
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return key


def _header(name: str, message: Message) -> str | None:
    lower = name.lower()
    return next((value for each, value in message.headers.items() if each.lower() == lower), None)


def _pointed(pointer: str, message: Message) -> str | None:
    try:
        value = _find(orjson.loads(message.payload), pointer)
        return None if value is _MISSING else orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return None  # not JSON, or nested deeper than a key can sensibly be


def _find(value: Any, pointer: str) -> Any:
    """Follow a pointer: `~1` stands for `/`, `~0` for `~`; an index has no leading zeros (RFC 6901 section 4)."""
    for token in pointer[1:].split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name, _MISSING)
        elif isinstance(value, list) and _is_index(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return _MISSING
    return value


def _is_index(name: str) -> bool:
    return _INDEX.fullmatch(name) is not None


def _plain(value: Any) -> Any:
    """Write whole numbers one way."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
