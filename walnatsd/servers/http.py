"""The HTTP address: emitting with one call."""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

import orjson
from aiohttp import web

from walnatsd.api.errors import TABLE, problem
from walnatsd.api.events import Events
from walnatsd.emit.request import EmitRequest, Receipt
from walnatsd.model.refusal import Reason, Refusal

MAX_BODY_BYTES = 64 << 20
"""The server's own limit; NATS' max_payload is usually far below and gives the better error."""
_PASSED_ON = frozenset({"traceparent", "tracestate"})
_WRAPPED = "walnats-header-"
_PARAMETERS = frozenset({"uid", "delay", "deliver_at", "trace_id", "expected_last_sequence"})

Handler = Callable[[web.Request], Awaitable[web.Response]]


def http_app(events: Events) -> web.Application:
    """Build the application of the HTTP address."""

    async def emit(request: web.Request) -> web.Response:
        receipt = await events.emit(await read_emit(request))
        return _json(200 if receipt.duplicate else 201, receipt_json(receipt))

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/v1/events/{event}", answering(emit))
    app.router.add_route("*", "/{rest:.*}", answering(_nothing_here))
    return app


async def read_emit(request: web.Request) -> EmitRequest:
    """Read an emit from a request.

    Raises:
        Refusal: The request is malformed.
    """
    query = request.query
    if unknown := set(query) - _PARAMETERS:
        raise Refusal(Reason.INVALID_REQUEST, f"unknown parameters: {', '.join(sorted(unknown))}")
    header = request.headers
    uid = query.get("uid", "")
    if not uid and (key := header.get("Idempotency-Key")):
        uid = key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key
    try:
        payload = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(Reason.TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES >> 20} MiB", uid=uid) from None
    return EmitRequest(
        event=request.match_info["event"],
        payload=payload,
        content_type=header.get("Content-Type", ""),
        uid=uid,
        trace_id=query.get("trace_id", ""),
        headers=_message_headers(header),
        delayed="delay" in query or "deliver_at" in query,
        expected_last_sequence=_sequence(query.get("expected_last_sequence")),
    )


def _message_headers(header: Mapping[str, str]) -> dict[str, str]:
    """Pick the headers that are the message's: ce-*, trace context, and what is wrapped in walnats-header-*."""
    picked = {}
    for name, value in header.items():
        lower = name.lower()
        if lower.startswith("ce-") or lower in _PASSED_ON:
            picked[lower] = value
        elif lower.startswith(_WRAPPED):
            picked[name[len(_WRAPPED) :]] = value
    return picked


def _sequence(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise Refusal(Reason.INVALID_REQUEST, f"expected_last_sequence is a whole number, not {text[:100]!r}")
    return int(text)


def receipt_json(receipt: Receipt) -> dict[str, object]:
    """Write a receipt as the contract's JSON."""
    return {
        "uid": receipt.uid,
        "stream": receipt.stream,
        "sequence": receipt.sequence,
        "duplicate": receipt.duplicate,
        "scheduled": False,
        "spooled": False,
    }


def answering(handler: Handler) -> Handler:
    """Answer refusals as problem details."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)

    return answer


def refused(refusal: Refusal) -> web.Response:
    """Write a refusal as an answer."""
    response = web.Response(
        status=TABLE[refusal.reason].http,
        body=orjson.dumps(problem(refusal)),
        content_type="application/problem+json",
    )
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return response


async def _nothing_here(request: web.Request) -> web.Response:
    path = unquote(request.path)
    if request.method != "POST" and path.startswith("/v1/events/"):
        return _json(405, {"title": "method not allowed", "status": 405, "detail": "emit with POST"}, allow="POST")
    return _json(
        404, {"title": "no such path", "status": 404, "detail": "emit with POST /v1/events/{event}; see the README"}
    )


def _json(status: int, body: Mapping[str, object], *, allow: str = "") -> web.Response:
    kind = "application/problem+json" if status >= 400 else "application/json"
    response = web.Response(status=status, body=orjson.dumps(body), content_type=kind)
    if allow:
        response.headers["Allow"] = allow
    return response
