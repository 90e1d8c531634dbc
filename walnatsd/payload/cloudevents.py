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
_PLAIN = _VISIBLE.translate({ord(" "): None, ord('"'): None, ord("%"): None})
_ENCODED = re.compile(r"(?:[!#$&-~]|%[0-9A-Fa-f]{2})*")
_STRAY = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)
_PLAIN_ID = re.compile(r"[!#$&-~]+")


def content_type(header: Mapping[str, str]) -> str:
    """Give the media type of a stored message: `Content-Type`, else `ce-datacontenttype`, else JSON."""
    declared = ""
    for name, value in header.items():
        lower = name.lower()
        if lower == "content-type":
            return value
        if lower == "ce-datacontenttype":
            declared = decoded(encoded(value))
    return declared or headers.DEFAULT_CONTENT_TYPE


def attributes(message: Message, *, source: str) -> dict[str, str]:
    """Give the CloudEvents headers of a message for HTTP: what the emitter gave, and the required ones filled in.

    `ce-datacontenttype` is left out, for `Content-Type` says it (HTTP binding, section 3.1.1).
    """
    given = {
        lower: encoded(value)
        for name, value in message.headers.items()
        if (lower := headers.deliverable(name)) is not None and lower.startswith(PREFIX)
    }
    given.pop("ce-datacontenttype", None)
    return required(message, source=source) | given


def required(message: Message, *, source: str) -> dict[str, str]:
    """Give what stands for the CloudEvents headers that every event has, where the emitter gave none."""
    return {
        "ce-id": id_of(message),
        "ce-source": source_of(source),
        "ce-type": message.event,
        "ce-specversion": "1.0",
        "ce-time": rfc3339(message.stored_at),
    }


def id_of(message: Message) -> str:
    """Give `ce-id` where the emitter gave none."""
    identity = message.identity
    return identity if _PLAIN_ID.fullmatch(identity) else quote(identity, safe=_PLAIN)


@lru_cache(maxsize=16)
def source_of(service: str) -> str:
    """Give `ce-source` where the emitter gave none: the service's name, which is the same for all messages."""
    return quote(service, safe=_PLAIN)


def is_structured(content_type: str) -> bool:
    """Whether the payload itself says what the headers would (HTTP binding, section 3)."""
    return content_type[:23].lower() == "application/cloudevents"


def encoded(value: str) -> str:
    """Write the value of an attribute as a header has it (HTTP and NATS bindings, section 3.1.3.2).

    The value may be as it is, as older versions of the bindings wrote it (in double quotes, with spaces), or percent-encoded,
    which is not done twice.
    """
    if _ENCODED.fullmatch(value):
        return value
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _BACKSLASH.sub(r"\1", value[1:-1])
    return quote(_STRAY.sub("%25", value), safe=_PLAIN + "%")


def encode_given(value: str) -> str:
    """Write the value of an attribute that an emitter gave as `encoded` does.

    Raises:
        ValueError: It is percent-encoded and not UTF-8, which must be rejected (section 3.1.3.2).
    """
    value = encoded(value)
    if "%" in value:
        try:
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise ValueError("is percent-encoded, but not as UTF-8") from None
    return value


def in_ascii(value: str) -> str:
    """Percent-encode what a header that is no attribute can't carry; what is encoded stays."""
    if value.isascii() and value.isprintable():
        return value
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
