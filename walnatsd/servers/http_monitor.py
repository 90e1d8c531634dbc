"""The live feed over HTTP: server-sent events (WHATWG HTML, section 9.2), each a CloudEvent in JSON."""

import asyncio
import re
import uuid
from collections.abc import Iterator

import orjson
from aiohttp import web

from walnatsd.api.errors import problem
from walnatsd.model.refusal import Refusal
from walnatsd.monitor.watcher import Gap, Seen, Watcher
from walnatsd.payload import structured

HEARTBEAT_S = 15.0
"""How often something is written in silence, so that a watcher that is gone without a word is noticed."""
WRITE_TIMEOUT_S = 10.0
"""How long a watcher may leave the response unread while there is something for it."""
CHUNK_BYTES = 64 << 10

_HEARTBEAT = b":\n\n"
_LINE_END = re.compile(rb"\r\n|\r|\n")


async def show(request: web.Request, watcher: Watcher, *, source: str) -> web.StreamResponse:
    """Write what is seen until the watcher ends or goes away.

    Args:
        request: Who asked for it.
        watcher: What is seen.
        source: The CloudEvents `source`, where the emitter gave none.
    """
    response = web.StreamResponse(headers=_headers(request))
    await response.prepare(request)
    try:
        await _write(response, _HEARTBEAT)  # the feed has begun
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    taken = await watcher.take()
            except TimeoutError:
                await _write(response, _HEARTBEAT)
                continue
            except Refusal as why:
                await _write(response, _frame(orjson.dumps(problem(why)), event=b"end"))
                break
            for chunk in _chunks(taken, source):
                await _write(response, chunk)
                await asyncio.sleep(0)  # writing waits only for who does not read
        await response.write_eof()
    except TimeoutError:
        watcher.drop(f"it has not read its response for {WRITE_TIMEOUT_S:g} s")
        if request.transport is not None:
            request.transport.abort()  # what is buffered for it would be kept, and the stop of the daemon held up
    except ConnectionError:
        pass  # it has gone
    return response


def _headers(request: web.Request) -> dict[str, str]:
    headers = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",  # nginx would collect events
        "Vary": "Origin",
    }
    if origin := request.headers.get("Origin"):  # the door has let it in
        headers["Access-Control-Allow-Origin"] = origin
    return headers


async def _write(response: web.StreamResponse, chunk: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(chunk)


def _chunks(taken: list[Seen | Gap], source: str) -> Iterator[bytes]:
    """Write what is seen, in pieces of some size: a write for each message would cost more than the message."""
    chunk = bytearray()
    for seen in taken:
        chunk += _gap() if isinstance(seen, Gap) else _seen(seen, source)
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


def _seen(seen: Seen, source: str) -> bytes:
    event = structured.seen(seen.message, id_=uuid.uuid4().hex, source=source, codec_error=seen.codec_error)
    return _frame(event)


def _gap() -> bytes:
    return _frame(
        b'{"detail":"the connection to NATS was away; what was emitted meanwhile was not seen"}', event=b"gap"
    )


def _frame(data: bytes, *, event: bytes = b"") -> bytes:
    """Write one event. Line ends in the data, which in JSON are mere white space, need a field for each line."""
    name = b"event: " + event + b"\n" if event else b""
    return name + b"".join(b"data: " + line + b"\n" for line in _LINE_END.split(data)) + b"\n"
