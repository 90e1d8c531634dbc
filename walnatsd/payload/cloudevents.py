"""CloudEvents 1.0, binary mode: attributes as headers on both sides (HTTP and NATS protocol bindings)."""

import re
import time
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from walnatsd.model import headers
from walnatsd.model.message import Message

PREFIX = "ce-"
_SENDABLE = re.compile(r"[\t\x20-\x7e]*")
_VISIBLE = "".join(chr(code) for code in range(0x20, 0x7F))


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
        name.lower(): in_ascii(value)
        for name, value in message.headers.items()
        if name.lower().startswith(PREFIX) and headers.is_token(name)
    }
    given.pop("ce-datacontenttype", None)
    return {
        "ce-id": quote(message.identity, safe=_VISIBLE.translate({ord(" "): None, ord('"'): None, ord("%"): None})),
        "ce-source": in_ascii(source),
        "ce-type": message.event,
        "ce-specversion": "1.0",
        "ce-time": rfc3339(message.stored_at),
    } | given


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
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{micros:06d}Z"
