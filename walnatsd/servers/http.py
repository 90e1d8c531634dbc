"""The HTTP address: emitting with one call."""

from collections.abc import Mapping
from functools import lru_cache

import orjson
from aiohttp import web

from walnatsd.api.access import Access
from walnatsd.api.errors import problem
from walnatsd.api.events import MAX_BATCH_ITEMS, Events
from walnatsd.emit.calls import Answer
from walnatsd.emit.request import EmitRequest, Receipt
from walnatsd.model import trace_context
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.payload.cloudevents import PREFIX, encoded, in_ascii
from walnatsd.payload.event_json import BATCH_TYPE, STRUCTURED_TYPE, parse, take_apart
from walnatsd.servers.answers import json_answer
from walnatsd.servers.door import Guard, application
from walnatsd.servers.http_monitor import show
from walnatsd.servers.http_operations import EMIT, EMIT_BATCH, LARGEST_SEQUENCE, MONITOR, REQUEST, SCHEMAS
from walnatsd.servers.openapi import serve_description
from walnatsd.servers.operations import serve
from walnatsd.servers.presence import while_connected
from walnatsd.servers.scheduled import serve_scheduled
from walnatsd.servers.shortcut import tell
from walnatsd.servers.times import read_duration, read_instant
from walnatsd.servers.tokens import holding

MAX_BODY_BYTES = 64 << 20
"""The server's own limit; NATS' max_payload is usually far below and gives the better error."""
_LISTS = frozenset({trace_context.TRACESTATE, trace_context.BAGGAGE})
"""May be spread over several headers (W3C Trace Context, section 3.3.1; Baggage, section 3.2)."""
_WRAPPED = "walnats-header-"


def http_app(events: Events, guard: Guard, access: Access | None, *, source: str) -> web.Application:
    """Build the application of the HTTP address; `source` is the service's name."""

    async def emit(request: web.Request) -> web.StreamResponse:
        receipt = await events.emit(await read_emit(request))
        return tell(request, orjson.dumps(receipt_json(receipt)), status=_status(receipt))

    async def call(request: web.Request) -> web.Response:
        timeout_s = _timeout_s(request)
        answer = await while_connected(request, events.call(await read_emit(request), timeout_s=timeout_s))
        if answer is None:
            return web.Response()  # for nobody
        return web.Response(body=answer.payload, headers=_answer_headers(answer))

    async def monitor(request: web.Request) -> web.StreamResponse:
        async with events.monitor([request.match_info["event"]]) as watcher:
            with holding(request, watcher.end):
                return await show(request, watcher, source=source)

    async def emit_batch(request: web.Request) -> web.Response:
        items = await read_batch(request)
        results = iter(await events.emit_batch([item for item in items if isinstance(item, EmitRequest)]))
        answered = [item if isinstance(item, Refusal) else next(results) for item in items]
        return json_answer({"items": [_item_json(each) for each in answered]})

    app = application(guard, access, client_max_size=MAX_BODY_BYTES)
    serve(app, EMIT, emit)
    serve(app, EMIT_BATCH, emit_batch)
    serve(app, REQUEST, call)
    serve(app, MONITOR, monitor)
    serve_scheduled(app, events)
    serve_description(app, "walnatsd", SCHEMAS)
    return app


async def read_emit(request: web.Request) -> EmitRequest:
    """Read an emit from a request.

    Raises:
        Refusal: The request is malformed.
    """
    query = request.query
    uid = query.get("uid") or _idempotency_key(request)
    content_type = _once(request, "Content-Type")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == BATCH_TYPE:
        raise Refusal(Reason.INVALID_REQUEST, "POST a batch to /v1/events/{event}/batch")
    if (coding := _once(request, "Content-Encoding").lower()) not in ("", "identity"):
        raise Refusal(
            Reason.INVALID_HEADER,
            f"the body is the payload as it is, without Content-Encoding {coding[:100]!r}",
        )
    payload, headers = await _body(request), _message_headers(request)
    if media_type == STRUCTURED_TYPE:
        payload, content_type, headers = _unpacked(payload, headers)
    event = request.match_info["event"]
    if not query:
        return EmitRequest(event, payload, content_type, uid, "", headers)
    return EmitRequest(
        event,
        payload,
        content_type=content_type,
        uid=uid,
        trace_id=query.get("trace_id", ""),
        headers=headers,
        delay_s=read_duration("delay", query["delay"]) if "delay" in query else None,
        deliver_at=read_instant(query["deliver_at"]) if "deliver_at" in query else None,
        expected_last_sequence=_sequence(query.get("expected_last_sequence")),
    )


def _unpacked(body: bytes, outer: dict[str, str]) -> tuple[bytes, str, dict[str, str]]:
    """Take a CloudEvent in structured mode apart: payload, content type, headers.

    Its attributes may stand in headers too (HTTP binding, section 3.2.3), but can't say something else there.
    """
    try:
        event = take_apart(parse(body))
    except ValueError as error:
        raise Refusal(Reason.INVALID_REQUEST, f"the body is no CloudEvent: {error}") from None
    said = event.headers | {"ce-datacontenttype": encoded(event.content_type)}
    for name, value in outer.items():
        if name.startswith(PREFIX) and encoded(value) != said.get(name):
            raise Refusal(
                Reason.INVALID_HEADER, f"the header {name} says something else than the CloudEvent in the body"
            )
    return event.payload, event.content_type, outer | event.headers


async def read_batch(request: web.Request) -> list[EmitRequest | Refusal]:
    """Read a batch of CloudEvents; an item that is none is a refusal in its place.

    Raises:
        Refusal: The request as a whole is malformed.
    """
    if _once(request, "Content-Type").partition(";")[0].strip().lower() != BATCH_TYPE:
        raise Refusal(Reason.INVALID_REQUEST, f"a batch has the content type {BATCH_TYPE}")
    try:
        items = parse(await _body(request))
    except ValueError as error:
        raise Refusal(Reason.INVALID_REQUEST, f"the body is not JSON: {error}") from None
    if not isinstance(items, list):
        raise Refusal(Reason.INVALID_REQUEST, "a batch is a JSON list of CloudEvents")
    if len(items) > MAX_BATCH_ITEMS:  # looked at before the good ones are told from the bad ones
        raise Refusal(
            Reason.TOO_LARGE, f"a batch holds at most {MAX_BATCH_ITEMS} items; this one has {len(items)} items"
        )
    trace = {name: ",".join(request.headers.getall(name)) for name in trace_context.NAMES if name in request.headers}
    return [_batch_item(request.match_info["event"], item, trace) for item in items]


def _batch_item(event: str, item: object, trace: Mapping[str, str]) -> EmitRequest | Refusal:
    """Read an item; the trace context of the request is the item's, where that has none of its own."""
    try:
        parts = take_apart(item)
    except ValueError as error:
        return Refusal(Reason.INVALID_REQUEST, f"the item is no CloudEvent: {error}")
    headers = parts.headers if "ce-traceparent" in parts.headers else {**trace, **parts.headers}
    return EmitRequest(event, parts.payload, content_type=parts.content_type, headers=headers)


async def _body(request: web.Request) -> bytes:
    content = request.content
    try:
        if content.is_eof():  # all of it has come with the head, so it is small
            return content.read_nowait()
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise _too_large()
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except web.RequestPayloadError as error:
        why = " ".join(str(error).removeprefix("400, message:").split())
        raise Refusal(Reason.INVALID_REQUEST, f"the body can't be read: {why}") from None


def _too_large() -> Refusal:
    return Refusal(Reason.TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES >> 20} MiB")


def _idempotency_key(request: web.Request) -> str:
    key = _once(request, "Idempotency-Key")
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


def _once(request: web.Request, name: str) -> str:
    """Give the value of a header, empty where there is none.

    Raises:
        Refusal: INVALID_HEADER: it stands more than once, and nobody can say which one is meant.
    """
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise Refusal(Reason.INVALID_HEADER, f"the header {name} stands {len(values)} times")
    return values[0] if values else ""


def _message_headers(request: web.Request) -> dict[str, str]:
    """Pick the headers that are the message's: ce-*, trace context, and what is wrapped in walnats-header-*."""
    picked = {}
    for name in filter(_may_be_messages, request.headers):
        lower = name.lower()
        if lower in _LISTS:
            picked[lower] = ",".join(request.headers.getall(name))
        elif _is_own(lower):
            picked[lower] = _once(request, name)
        elif lower.startswith(_WRAPPED):
            inner = name[len(_WRAPPED) :]
            if inner in picked or (inner.lower() in request.headers and _is_own(inner.lower())):
                raise Refusal(Reason.INVALID_HEADER, f"the header {inner} stands twice, once in {_WRAPPED}*")
            picked[inner] = _once(request, name)
    return picked


@lru_cache(maxsize=256)  # the same few with every request; a caller may make long ones up
def _may_be_messages(name: str) -> bool:
    """Whether a header is the message's, wrapped or not."""
    lower = name.lower()
    return lower in _LISTS or _is_own(lower) or lower.startswith(_WRAPPED)


def _is_own(lower: str) -> bool:
    """Whether a header is the message's without being wrapped."""
    return lower.startswith("ce-") or lower in trace_context.NAMES


def _sequence(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) <= LARGEST_SEQUENCE):
        raise Refusal(Reason.INVALID_REQUEST, f"expected_last_sequence is a whole number, not {text[:100]!r}")
    return int(text)


def _timeout_s(request: web.Request) -> float | None:
    text = request.query.get("timeout")
    if text is None:
        return None
    return read_duration("timeout", text)


def _answer_headers(answer: Answer) -> dict[str, str]:
    """Write the facts of an answer. Its own headers are left out: here they could steer a browser."""
    told = {"Content-Type": in_ascii(answer.content_type), "walnats-uid": answer.uid}
    if actor := answer.headers.get("walnats-actor"):
        told["walnats-actor"] = in_ascii(actor)
    return told


def _status(receipt: Receipt) -> int:
    if receipt.duplicate:
        return 200
    return 202 if receipt.scheduled or receipt.spooled else 201


def receipt_json(receipt: Receipt) -> dict[str, object]:
    """Write a receipt as the contract's JSON."""
    return {
        "uid": receipt.uid,
        "stream": receipt.stream,
        "sequence": receipt.sequence or None,
        "duplicate": receipt.duplicate,
        "scheduled": receipt.scheduled,
        "spooled": receipt.spooled,
    }


def _item_json(result: Receipt | Refusal) -> dict[str, object]:
    if isinstance(result, Refusal):
        return {"uid": result.uid, "error": problem(result)}
    return {"uid": result.uid, "ok": receipt_json(result)}
