"""Names of headers, and who may set which.

The reserved ones are the contract's: `Nats-*` steer the server, `Walnats-*` and `webhook-*` are walnatsd's own words to
the actor, the rest belong to one HTTP connection or would lend the emitter an identity.
"""

import re
from functools import lru_cache

MESSAGE_ID = "Nats-Msg-Id"
PIN = "Nats-Pin-Id"
EXPECTED_LAST_SEQUENCE = "Nats-Expected-Last-Sequence"
EXPECTED_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_MESSAGE_ID = "Nats-Expected-Last-Msg-Id"
TRACE_ID = "Walnats-Trace"
DELAY = "Walnats-Delay"
REPLY = "Walnats-Reply"
REPLY_ERRORS = "Walnats-Reply-Errors"
"""Set where who waits for an answer also wants to hear that the message became a dead letter."""
ERROR = "Walnats-Error"
"""Of an answer that is none: the reason, like DEAD_LETTER."""
ERROR_MESSAGE = "Walnats-Error-Message"
"""The same in words."""
CONTENT_TYPE = "Content-Type"

DEFAULT_CONTENT_TYPE = "application/json"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 section 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UID = re.compile(r"[\x20-\x7e]{1,256}")
_CONNECTION_HEADERS = frozenset(
    # RFC 9110 section 7.6.1 and its registered fields
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authenticate", "proxy-authorization", "proxy-authentication-info"}
    | {"host", "content-length", "expect"}
)
_CREDENTIALS = frozenset({"authorization", "cookie"})
_OWN_PREFIXES = ("nats-", "walnats-", "walnatsd-", "webhook-")


def is_token(name: str) -> bool:
    """Whether this can be the name of a header."""
    return _NAME.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Whether an emitter may not set this header."""
    lower = name.lower()
    return lower in _CONNECTION_HEADERS or lower in _CREDENTIALS or lower.startswith(_OWN_PREFIXES)


@lru_cache(maxsize=256)  # few in practice; an emitter may make long ones up
def deliverable(name: str) -> str | None:
    """Give the name that a stored header has on its way to an actor: in lower case; None where it stays behind.

    NATS allows names that HTTP can't carry, and reserved ones are not the emitter's.
    """
    return name.lower() if is_token(name) and not is_reserved(name) else None


def check_emitted_header(name: str, value: str) -> None:
    """Check a header that an emitter gave.

    Raises:
        ValueError: What is wrong with it, in words.
    """
    if not is_token(name):
        raise ValueError(f"header name {name!r} is not a token (RFC 9110 section 5.6.2)")
    if is_reserved(name):
        raise ValueError(f"header {name!r} is reserved and can't be set by an emitter")
    check_header_value(name, value)


def check_header_value(name: str, value: str) -> None:
    """Check the value of a header.

    Raises:
        ValueError: It holds a control character or what UTF-8 can't express, so it can't travel.
    """
    try:
        check_text(value)
    except ValueError as error:
        raise ValueError(f"the value of header {name!r} {error}") from None


def check_text(value: str) -> str:
    """Return the value if a header can carry it.

    Raises:
        ValueError: What is wrong with it: the end of a sentence.
    """
    if value.isascii() and value.isprintable():
        return value
    if _CONTROL.search(value):
        raise ValueError("holds a control character (CR, LF, NUL or the like)")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return value


def check_configured_header(name: str) -> str:
    """Return the name if an actor's `headers` may set it.

    Raises:
        ValueError: What is wrong with it, in words.
    """
    if not is_token(name):
        raise ValueError(f"{name!r} is not a header name")
    lower = name.lower()
    if lower in _CONNECTION_HEADERS or lower.startswith(_OWN_PREFIXES):
        raise ValueError(f"{name!r} is set by walnatsd itself")
    return name


def check_uid(uid: str) -> str:
    """Return the uid if a message may be stored under it.

    Raises:
        ValueError: What is wrong with it, in words.
    """
    if not _UID.fullmatch(uid):
        raise ValueError("a uid is 1 to 256 visible ASCII characters or spaces")
    if uid != uid.strip():
        raise ValueError("a uid must not begin or end with a space: NATS would trim it")
    return uid
