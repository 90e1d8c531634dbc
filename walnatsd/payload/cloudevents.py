"""CloudEvents 1.0, binary mode: attributes as headers on both sides (HTTP and NATS protocol bindings)."""

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from walnatsd.model import headers
from walnatsd.model.message import Message

PREFIX = "ce-"
_SENDABLE = re.compile(r"[\t\x20-\x7e]*")
_VISIBLE = "".join(chr(code) for code in range(0x20, 0x7F))
_SAFE_IN_ID = _VISIBLE.translate({ord(" "): None, ord('"'): None, ord("%"): None})
_PLAIN_ID = re.compile(r"[!#$&-~]+")


def content_type(header: Mapping[str, str]) -> str:
    """Give the media type of a stored message: `Content-Type`, else `ce-datacontenttype`, else JSON."""
    declared = ""
    for name, value in header.items():
        lower = name.lower()
        if lower == "content-type":
            return value
        if lower == "ce-datacontenttype":
            declared = value
    return declared or headers.DEFAULT_CONTENT_TYPE


def attributes(message: Message, *, source: str) -> dict[str, str]:
    """Give the CloudEvents headers of a message for HTTP: what the emitter gave, and the required ones filled in.

    `ce-datacontenttype` is left out, for `Content-Type` says it (HTTP binding, section 3.1.1).
    """
    given = {
        lower: in_ascii(value)
        for name, value in message.headers.items()
        if (lower := headers.deliverable(name)) is not None and lower.startswith(PREFIX)
    }
    given.pop("ce-datacontenttype", None)
    return required(message, source=source) | given


def required(message: Message, *, source: str) -> dict[str, str]:
    """Give what stands for the CloudEvents headers that every event has, where the emitter gave none."""
    identity = message.identity
    return {
        "ce-id": identity if _PLAIN_ID.fullmatch(identity) else quote(identity, safe=_SAFE_IN_ID),
        "ce-source": in_ascii(source),
        "ce-type": message.event,
        "ce-specversion": "1.0",
        "ce-time": rfc3339(message.stored_at),
    }


def in_ascii(value: str) -> str:
    """Percent-encode what a header value can't carry (HTTP binding, section 3.1.3.2); what is encoded stays."""
    return value if _SENDABLE.fullmatch(value) else quote(value, safe=_VISIBLE + "\t")


def decoded(value: str) -> str:
    """Undo percent-encoding, once; what is not UTF-8 then stays as it is (HTTP binding, section 3.1.3.2)."""
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return value


def rfc3339(seconds: float) -> str:
    """Write seconds since the epoch as RFC 3339 in UTC, with microseconds."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{micros:06d}Z"


@lru_cache(maxsize=256)
def _second(whole: int) -> str:
    """Write a whole second; what is stored together shares it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
