"""A message to be stored, as the message of the contract."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from walnatsd_client._cloud_event import CloudEvent
from walnatsd_client._declarations import duration
from walnatsd_client._errors import InvalidError
from walnatsd_client._event import Event
from walnatsd_client._proto import events_pb2
from walnatsd_client._uid import new_uid
from walnatsd_client._wire import plain_emit

T = TypeVar("T")

_MAX_PAYLOAD_BYTES = 64 << 20
"""No NATS server takes more (the bound of `max_payload`). gRPC cuts a larger request off, without a reason of walnatsd's."""

_NOTHING_ELSE = (None,) * 6
"""Stands for the options of an emit that has a payload and a uid alone."""


def emit_request(
    event: Event[T],
    message: T,
    *,
    uid: str | None,
    trace_id: str | None,
    headers: Mapping[str, str] | None,
    meta: CloudEvent | None,
    expected_last_sequence: int | None,
    delay: float | None = None,
    deliver_at: datetime | None = None,
) -> tuple[str, bytes]:
    """Write down what `Connection.emit` was given, and a uid where there would be none.

    Returns:
        The uid, empty where the sidecar derives it, and the `EmitRequest` as bytes.

    Raises:
        ValueError: As `Connection.emit`.
        InvalidError: TOO_LARGE: nobody could store that.
    """
    payload = event.encode(message)
    if (trace_id, headers, meta, expected_last_sequence, delay, deliver_at) == _NOTHING_ELSE:
        # Most are like that. What is of another type than it should be is left to protobuf, which says so.
        uid = uid or new_uid()
        if type(payload) is bytes and type(uid) is str and len(payload) <= _MAX_PAYLOAD_BYTES:
            return uid, plain_emit(event._wire_head, payload, uid)  # noqa: SLF001 - ours
    if delay is not None and deliver_at is not None:
        raise ValueError("give either delay or deliver_at")
    all_headers = _all_headers(headers or {}, meta)
    if not uid:
        uid = "" if _identifies_itself(all_headers) else new_uid()
    if len(payload) > _MAX_PAYLOAD_BYTES:
        told = f"the payload has {len(payload)} bytes, and no NATS server takes more than {_MAX_PAYLOAD_BYTES}"
        raise InvalidError(told, "TOO_LARGE", uid=uid)
    request = events_pb2.EmitRequest(
        event=event.name,
        payload=payload,
        content_type=(meta and meta.datacontenttype) or event.content_type,
        uid=uid,
        trace_id=trace_id or "",
        headers=all_headers,
        delay=None if delay is None else duration(delay),
        deliver_at=None if deliver_at is None else _timestamp(deliver_at),
        expected_last_sequence=expected_last_sequence,
    )
    return uid, request.SerializeToString()


def _all_headers(headers: Mapping[str, str], meta: CloudEvent | None) -> Mapping[str, str]:
    for name, value in headers.items():
        if not all(isinstance(each, str) for each in (name, value)):
            raise TypeError(f"headers are texts; {name!r}: {value!r} is not")  # protobuf doesn't say which
    if meta is None:
        return headers
    attributes = meta.headers()
    for name in headers:
        if name.lower() in attributes:
            raise ValueError(f"{name.lower()} stands in headers and in meta; give it in one of them")
    return {**headers, **attributes}


def _identifies_itself(headers: Mapping[str, str]) -> bool:
    """Whether the sidecar derives the uid from the headers, the same on every try (contract, section 3)."""
    return bool(headers) and {"ce-source", "ce-id"} <= {name.lower() for name in headers}


def _timestamp(time: datetime) -> Timestamp:
    if time.utcoffset() is None:
        raise ValueError("deliver_at needs a time zone")
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
