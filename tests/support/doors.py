"""The doors that a message comes in by: gRPC and HTTP, over TCP and over Unix sockets, behind one face."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import grpc
import pytest
from multidict import CIMultiDict
from yarl import URL

from support.daemon import Sidecar
from support.described import http_description
from support.grpc_calls import Refused, refused, stubs
from walnatsd.v1 import events_pb2

Receipt = dict[str, Any]


class Door(Protocol):
    """Emits one message; gives the receipt, or what the refusal says."""

    name: str

    async def emit(self, event: str, payload: bytes = b"1", **options: Any) -> Receipt | Refused: ...


class Grpc:
    name = "grpc"

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def emit(
        self, event: str, payload: bytes = b"1", *, timeout_s: float | None = None, **options: Any
    ) -> Receipt | Refused:
        try:
            answer = await self._stub.Emit(
                events_pb2.EmitRequest(event=event, payload=payload, **options), timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            return refused(error)
        return {
            name: getattr(answer, name) for name in ("uid", "stream", "sequence", "duplicate", "scheduled", "spooled")
        }


class Http:
    name = "http"

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._address = address

    async def emit(
        self,
        event: str,
        payload: bytes = b"1",
        *,
        headers: dict[str, str] | None = None,
        content_type: str = "",
        **query: str | int,
    ) -> Receipt | Refused:
        own = {"traceparent", "tracestate"}
        sent = CIMultiDict(
            (name if name.startswith("ce-") or name in own else f"walnats-header-{name}", value)
            for name, value in (headers or {}).items()
        )
        if content_type:
            sent["Content-Type"] = content_type
        url = URL(f"http://{self._address}/v1/events/{quote(event, safe='')}", encoded=True)
        async with self._session.post(
            url, data=payload, headers=sent, params=query, skip_auto_headers=("Content-Type",)
        ) as response:
            told = dict(response.headers)
            http_description().see_answer("post", url.raw_path, response.status, told, await response.read())
            return await read_answer(response)


async def read_answer(response: aiohttp.ClientResponse) -> Receipt | Refused:
    """Read an answer of the HTTP address: a receipt, or problem details."""
    answer = await response.json(content_type=None)
    if response.status < 300:
        assert response.content_type == "application/json"
        later = 202 if answer["scheduled"] or answer["spooled"] else 201
        assert response.status == (200 if answer["duplicate"] else later)
        return dict(answer)
    assert response.content_type == "application/problem+json"
    assert set(answer) == {"type", "title", "status", "detail", "reason", "uid", "maybe_stored"}
    assert answer["status"] == response.status
    after = response.headers.get("Retry-After")
    return Refused(
        code=str(response.status),
        reason=answer["reason"],
        message=answer["detail"],
        uid=answer["uid"],
        maybe_stored=answer["maybe_stored"],
        retry_after_s=None if after is None else float(after),
    )


@contextlib.asynccontextmanager
async def door(kind: str, sidecar: Sidecar) -> AsyncIterator[Door]:
    """Open a door of a sidecar; its addresses may be TCP or Unix sockets."""
    if kind.startswith("grpc"):
        async with stubs(sidecar.grpc) as both:
            yield Grpc(both.events)
        return
    unix = sidecar.http.startswith("unix:")
    connector = aiohttp.UnixConnector(sidecar.http.removeprefix("unix:")) if unix else aiohttp.TCPConnector()
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Http(session, "localhost" if unix else sidecar.http)


def receipt(answer: Receipt | Refused) -> Receipt:
    """The answer must be a receipt."""
    assert isinstance(answer, dict), answer
    return answer


def refusal(answer: Receipt | Refused) -> Refused:
    """The answer must be a refusal."""
    assert isinstance(answer, Refused), answer
    return answer


both_doors = pytest.mark.parametrize("kind", ["grpc", "http"])
