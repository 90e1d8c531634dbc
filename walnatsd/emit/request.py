"""What a caller asks to be stored, and whether it may be."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from walnatsd.model import headers
from walnatsd.model.headers import check_emitted_header, check_header_value, check_uid
from walnatsd.model.refusal import Reason, Refusal


@dataclass(frozen=True, slots=True)
class EmitRequest:
    """One message to store."""

    event: str
    payload: bytes
    content_type: str = ""
    """Empty where the caller gave none."""
    uid: str = ""
    """Empty where the caller gave none."""
    trace_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """ce-*, traceparent, tracestate and the caller's own."""
    delayed: bool = False
    """The caller asked for a later time."""
    expected_last_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an emit."""

    uid: str
    stream: str
    sequence: int
    duplicate: bool


def uid_of(request: EmitRequest) -> str:
    """Give the uid of a request: the given one, else CloudEvents source and id, else a new unique one.

    Raises:
        Refusal: INVALID_UID.
    """
    uid = request.uid
    if not uid:
        attributes = {name.lower(): value for name, value in request.headers.items() if name.lower() in _IDENTITY}
        if len(attributes) < len(_IDENTITY):
            return uuid.uuid4().hex
        uid = f"{attributes['ce-source']} {attributes['ce-id']}"
    try:
        return check_uid(uid)
    except ValueError as error:
        raise Refusal(Reason.INVALID_UID, f"{error}; this one is {uid[:300]!r}") from None


_IDENTITY = ("ce-source", "ce-id")


def stored_headers(request: EmitRequest, uid: str) -> dict[str, str]:
    """Give the headers that a request is stored with.

    Raises:
        Refusal: INVALID_HEADER.
    """
    try:
        for name, value in request.headers.items():
            check_emitted_header(name, value)
        check_header_value("Content-Type", request.content_type)
        check_header_value("trace_id", request.trace_id)
    except ValueError as error:
        raise Refusal(Reason.INVALID_HEADER, str(error), uid=uid) from None
    stored = dict(request.headers)
    if request.content_type:
        for name in [name for name in stored if name.lower() == "content-type"]:
            del stored[name]
        stored[headers.CONTENT_TYPE] = request.content_type
    stored[headers.MESSAGE_ID] = uid
    if request.trace_id:
        stored[headers.TRACE_ID] = request.trace_id
    if request.expected_last_sequence is not None:
        stored[headers.EXPECTED_LAST_SEQUENCE] = str(request.expected_last_sequence)
    return stored
