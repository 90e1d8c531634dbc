"""Calls over gRPC and HTTP, behind one face."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import grpc
from google.protobuf.duration_pb2 import Duration

from support.daemon import Sidecar
from support.doors import read_answer, refusal
from support.grpc_calls import Refused, refused, stubs
from walnatsd.v1 import events_pb2


@dataclass(frozen=True)
class Answered:
    """What an actor answered."""

    payload: bytes
    content_type: str
    uid: str
    actor: str | None


class Caller(Protocol):
    """Calls, and gives the answer or what the refusal says."""

    async def call(
        self, event: str, payload: bytes = b"x", *, timeout_s: float | None = None, uid: str = "", **options: Any
    ) -> Answered | Refused: ...


class _Grpc:
    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def call(
        self, event: str, payload: bytes = b"x", *, timeout_s: float | None = None, uid: str = "", **options: Any
    ) -> Answered | Refused:
        timeout = None
        if timeout_s is not None:
            timeout = Duration()
            timeout.FromMilliseconds(round(timeout_s * 1000))
        emit = events_pb2.EmitRequest(event=event, payload=payload, uid=uid, **options)
        try:
            answer = await self._stub.Call(events_pb2.CallRequest(emit=emit, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            return refused(error)
        headers = dict(answer.headers)
        return Answered(answer.payload, answer.content_type, headers["walnats-uid"], headers.get("walnats-actor"))


class _Http:
    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def call(
        self, event: str, payload: bytes = b"x", *, timeout_s: float | None = None, uid: str = "", **options: Any
    ) -> Answered | Refused:
        parameters = {"timeout": None if timeout_s is None else f"{timeout_s:g}", "uid": uid or None, **options}
        query = {name: str(value) for name, value in parameters.items() if value is not None}
        url = f"http://{self._sidecar.http}/v1/events/{quote(event, safe='')}/request"
        async with self._sidecar.session.post(url, data=payload, params=query) as response:
            if response.status != 200:
                return refusal(await read_answer(response))
            told = response.headers
            body = await response.read()
            return Answered(body, told["Content-Type"], told["walnats-uid"], told.get("walnats-actor"))


@contextlib.asynccontextmanager
async def caller(kind: str, sidecar: Sidecar) -> AsyncIterator[Caller]:
    """Call by `grpc` or by `http`."""
    if kind == "http":
        yield _Http(sidecar)
    else:
        async with stubs(sidecar.grpc) as both:
            yield _Grpc(both.events)


def answered(answer: Answered | Refused) -> Answered:
    """It must be an answer."""
    assert isinstance(answer, Answered), answer
    return answer


def not_answered(answer: Answered | Refused) -> Refused:
    """It must be a refusal."""
    assert isinstance(answer, Refused), answer
    return answer
