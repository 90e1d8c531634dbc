"""Actors as webhooks: an ASGI app to mount anywhere."""

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from walnatsd_client._actor import Actor, BatchActor
from walnatsd_client._batch import BATCH_TYPE, handle_batch
from walnatsd_client._delivery import Delivery, Reject, Retry
from walnatsd_client._handling import Done, handle
from walnatsd_client._signature import is_signed, key_of

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def asgi_app(
    *actors: Actor[Any],
    secrets: Iterable[str] = (),
    max_body_bytes: int = 8 << 20,
    now: Callable[[], float] = time.time,
) -> AsgiApp:
    """Serve actors as webhooks.

    The actor is chosen by the headers that the sidecar sends; the path doesn't matter, so one app serves all actors.

    | what happens | answer | what the sidecar makes of it |
    |---|---|---|
    | the handler returns | 204, or 200 with the response | done |
    | a `BatchActor`'s handler returns | 200 with a result for each message | as it says |
    | it raises `Reject`, or the payload is not of the event's schema | 422 | dead letter |
    | it raises `Retry` | 500, `Retry-After` if it says when | another attempt |
    | it raises anything else (logged here, not told) | 500 | another attempt |
    | the body is larger than `max_body_bytes` | 413 | dead letter |
    | not signed, no such actor here, no `POST` | 401, 404, 405 | the actor is unavailable; nothing is given up |

    Args:
        actors: The actors to serve.
        secrets: Standard Webhooks secrets (`whsec_` and base64) of which one must have signed a request. None: requests
            are not verified, which is for apps that nobody else can reach.
        max_body_bytes: The largest body to read. NATS takes 1 MiB unless its `max_payload` was raised.
        now: The clock that signatures are judged by, Unix seconds.

    Raises:
        ValueError: Two actors have the same name and event, or a secret is malformed.
    """
    by_name: dict[tuple[str, str], Actor[Any]] = {}
    for actor in actors:
        if by_name.setdefault((actor.event.name, actor.name), actor) is not actor:
            raise ValueError(f"two actors are called {actor.name} on the event {actor.event.name}")
    return _WebhookApp(by_name, tuple(map(key_of, secrets)), max_body_bytes, now)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: str | bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class _WebhookApp:
    actors: Mapping[tuple[str, str], Actor[Any]]
    keys: tuple[bytes, ...]
    max_body_bytes: int
    now: Callable[[], float]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                body = await _read(receive, self.max_body_bytes)
                if body is not None:
                    await _send(send, await self._answer(scope, body))
            case "lifespan":
                await _live(receive, send)
            case other:
                raise ValueError(f"actors are served over HTTP, not {other}")

    async def _answer(self, scope: Scope, body: bytes) -> _Answer:
        headers = {
            name.decode("latin-1").lower(): value.decode(errors="surrogateescape") for name, value in scope["headers"]
        }
        if scope["method"] != "POST":
            return _Answer(405, "walnatsd delivers with POST", ((b"allow", b"POST"),))
        if len(body) > self.max_body_bytes:
            return _Answer(413, f"the body is larger than {self.max_body_bytes} bytes")
        if self.keys and not is_signed(headers, body, self.keys, now=self.now()):
            return _Answer(401, "the request is not signed with a secret known here, or too old")
        event, name = headers.get("walnats-event", ""), headers.get("walnats-actor", "")
        actor = self.actors.get((event, name))
        if actor is None:
            return _Answer(404, f"no actor {name!r} on the event {event!r} here")
        is_batch = headers.get("content-type", "").partition(";")[0].strip().lower() == BATCH_TYPE
        if is_batch and not isinstance(actor, BatchActor):
            # Its declaration is wrong, not the messages: 404 keeps them.
            return _Answer(404, f"the actor {name!r} takes single messages; remove batch from its declaration")
        if isinstance(actor, BatchActor):
            if not is_batch:
                return _Answer(404, f"the actor {name!r} takes batches; add batch to its declaration")
            return _answer(await handle_batch(actor, headers, body))
        return _answer(await handle(actor, _delivery(actor, headers), body))


def _answer(outcome: Done | bytes | Reject | Retry) -> _Answer:
    match outcome:
        case Done(response=body, content_type=content_type):
            return _Answer(204) if body is None else _Answer(200, body, ((b"content-type", content_type.encode()),))
        case bytes(results):
            return _Answer(200, results, ((b"content-type", b"application/json"),))
        case Reject() as reject:
            return _Answer(422, reject.reason)
        case Retry() as retry:
            # Retry-After has whole seconds (RFC 9110 section 10.2.3).
            headers = () if retry.after is None else ((b"retry-after", b"%d" % math.ceil(retry.after)),)
            return _Answer(500, retry.reason, headers)


def _delivery(actor: Actor[Any], headers: Mapping[str, str]) -> Delivery:
    return Delivery(
        event=actor.event.name,
        actor=actor.name,
        uid=headers.get("walnats-uid", ""),
        sequence=_number(headers.get("walnats-sequence", ""), default=0),
        attempt=_number(headers.get("walnats-attempt", ""), default=1),
        trace_id=headers.get("walnats-trace", ""),
        headers=headers,
    )


def _number(text: str, *, default: int) -> int:
    """A number that the sidecar sends; others, like curl, may leave it out."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else default


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Read a body until it ends or passes the limit; None where the sidecar hung up."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > limit or not message.get("more_body", False):
            return bytes(body)


async def _send(send: Send, answer: _Answer) -> None:
    headers = list(answer.headers)
    body = answer.body
    if isinstance(body, str):
        body = body.encode(errors="replace")
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    if answer.status != 204:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    """Answer the lifespan protocol: there is nothing to start or stop here."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
