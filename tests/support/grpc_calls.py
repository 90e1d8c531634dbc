"""Calling a sidecar over gRPC, and reading its refusals."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2

from walnatsd.v1 import actors_pb2_grpc, events_pb2_grpc


class Stubs:
    """Both services."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.events = events_pb2_grpc.EventsStub(channel)
        self.actors = actors_pb2_grpc.ActorsStub(channel)


@contextlib.asynccontextmanager
async def stubs(address: str) -> AsyncIterator[Stubs]:
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield Stubs(channel)


@dataclass(frozen=True)
class Refused:
    """What a refusal says."""

    code: str
    reason: str
    message: str
    uid: str
    maybe_stored: bool
    retry_after_s: float | None


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """Read a refusal; it must be one of walnatsd's own."""
    trailers = dict(error.trailing_metadata() or ())
    assert "grpc-status-details-bin" in trailers, (error.code(), error.details())
    return refused_status(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))


def refused_status(status: status_pb2.Status) -> Refused:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    assert info.domain == "walnatsd"
    assert set(info.metadata) == {"uid", "maybe_stored"}
    return Refused(
        code=next(code.name for code in grpc.StatusCode if code.value[0] == status.code),
        reason=info.reason,
        message=status.message,
        uid=info.metadata["uid"],
        maybe_stored={"true": True, "false": False}[info.metadata["maybe_stored"]],
        retry_after_s=retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None,
    )
