"""What a caller asks to be stored, and whether it may be."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from walnatsd.model import headers
from walnatsd.model.headers import check_emitted_header, check_header_value, check_uid
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.payload.cloudevents import PREFIX, encode_given, encoded

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import RequestTrace


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)  # neither frozen nor a tuple: one is made for each emit, in half the time
class EmitRequest:
    """One message to store. Not to be changed."""

    event: str
    payload: bytes
    content_type: str = ""
    """Empty where the caller gave none."""
    uid: str = ""
    """Empty where the caller gave none."""
    trace_id: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    """ce-*, traceparent, tracestate and the caller's own."""
    delay_s: float | None = None
    """Hand it to actors after so many seconds; as the caller said it, so it may make no sense."""
    deliver_at: float | None = None
    """Hand it to actors at this time, in seconds since the epoch; as the caller said it."""
    expected_last_sequence: int | None = None
    reply_to: str = ""
    """Subject that an actor's answer is to be published to; empty where nobody waits for one."""
    within: "RequestTrace | None" = None
    """The span of the request that it is made for; None where there is none, or nothing is traced."""

    @property
    def is_delayed(self) -> bool:
        """Whether the caller said when."""
        return self.delay_s is not None or self.deliver_at is not None


@dataclass(slots=True)
class Receipt:
    """What became of an emit. Not to be changed."""

    uid: str
    stream: str
    sequence: int
    """Position in the stream; 0 where there is none yet."""
    duplicate: bool
    """An earlier emit had this uid, and nothing was stored now."""
    retried: bool = False
    """It was sent more than once, so that the message which it is a duplicate of may be its own."""
    scheduled: bool = False
    """It waits for its time; so does what it is a duplicate of."""
    spooled: bool = False
    """It waits on the local disk for NATS; so does what it is a duplicate of."""

    @property
    def outcome(self) -> str:
        """The same in one word: spooled, duplicate, scheduled or stored."""
        if self.spooled:
            return "spooled"
        return "duplicate" if self.duplicate else "scheduled" if self.scheduled else "stored"


def with_encoded_attributes(request: EmitRequest) -> EmitRequest:
    """Give the request with its CloudEvents attributes percent-encoded, in whatever way the emitter wrote them.

    So they travel (HTTP and NATS bindings, section 3.1.3.2), and one source and id give one uid.

    Raises:
        Refusal: INVALID_HEADER.
    """
    if not request.headers or not any(name[:3].lower() == PREFIX for name in request.headers):
        return request
    attributes = dict(request.headers)
    for name, value in request.headers.items():
        if name[:3].lower() == PREFIX:
            try:
                check_header_value(name, value)
                attributes[name] = encode_given(value)
            except ValueError as error:
                raise Refusal(Reason.INVALID_HEADER, f"{name}: {error}", uid=request.uid) from None
    return replace(request, headers=attributes)


def given_uid(request: EmitRequest) -> str:
    """Give the uid that the caller chose; empty where it chose none."""
    if request.uid or not request.headers:
        return request.uid
    attributes = {name.lower(): value for name, value in request.headers.items()}
    source, id_ = attributes.get("ce-source"), attributes.get("ce-id")
    return f"{source} {id_}" if source and id_ else ""


def _made_by(draw: Callable[[int], bytes]) -> Iterator[str]:
    """Give uids for ever: 128 bits of chance each. Chance is drawn for many at a time, for each draw is a system call."""
    while True:
        block = draw(_UIDS_AT_ONCE * 16).hex()
        for place in range(0, len(block), 32):
            yield block[place : place + 32]


_UIDS_AT_ONCE = 128
_fresh_uids = _made_by(secrets.token_bytes)


def uid_of(request: EmitRequest, given: str) -> str:
    """Give the uid of a request: the given one, else a new unique one.

    Raises:
        Refusal: INVALID_UID.
    """
    if not given:
        return next(_fresh_uids)
    try:
        return check_uid(given)
    except ValueError as error:
        made = "" if request.uid else ", made of ce-source and ce-id"
        raise Refusal(Reason.INVALID_UID, f"{error}; this one is {given[:300]!r}{made}") from None


_CONTENT_TYPES = frozenset({"content-type", "ce-datacontenttype"})


def stored_headers(request: EmitRequest, uid: str) -> dict[str, str]:
    """Give the headers that a request is stored with, the uid first.

    The content type of a CloudEvent stands in `ce-datacontenttype` too, as the CloudEvents NATS binding says.

    Raises:
        Refusal: INVALID_HEADER.
    """
    stored = {headers.MESSAGE_ID: uid}
    try:
        if request.headers:
            for name, value in request.headers.items():
                check_emitted_header(name, value)
            stored |= _own_headers(request, uid)
        if request.content_type:
            check_header_value("Content-Type", request.content_type)
            stored[headers.CONTENT_TYPE] = request.content_type
        if request.trace_id:
            check_header_value("trace_id", request.trace_id)
            stored[headers.TRACE_ID] = request.trace_id
    except ValueError as error:
        raise Refusal(Reason.INVALID_HEADER, str(error), uid=uid) from None
    if request.expected_last_sequence is not None:
        stored[headers.EXPECTED_LAST_SEQUENCE] = str(request.expected_last_sequence)
    if request.reply_to:
        stored |= {headers.REPLY: request.reply_to, headers.REPLY_ERRORS: "1"}
    return stored


def _own_headers(request: EmitRequest, uid: str) -> dict[str, str]:
    names = {name.lower() for name in request.headers}
    if len(names) < len(request.headers):
        raise Refusal(Reason.INVALID_HEADER, "a header stands twice; upper and lower case are the same", uid=uid)
    if not request.content_type:
        return dict(request.headers)
    stored = {name: value for name, value in request.headers.items() if name.lower() not in _CONTENT_TYPES}
    if any(name.startswith("ce-") for name in names):
        stored["ce-datacontenttype"] = encoded(request.content_type)
    return stored
