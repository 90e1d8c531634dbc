"""Emit, and wait for what the first responding actor answers."""

from typing import TypeVar

import grpc

from walnatsd_client._call import call
from walnatsd_client._declarations import duration
from walnatsd_client._errors import SIDECAR_UNAVAILABLE, UnavailableError, WalnatsdError
from walnatsd_client._event import EventWithResponse
from walnatsd_client._proto import events_pb2

T = TypeVar("T")
R = TypeVar("R")

_GRACE_S = 1.0
# How much longer than the sidecar we wait: it is the one that knows what became of the message.


async def request(
    channel: grpc.aio.Channel,
    method: grpc.aio.UnaryUnaryMultiCallable[events_pb2.CallRequest, events_pb2.CallResponse],
    event: EventWithResponse[T, R],
    uid: str,
    emit: bytes,
    timeout_s: float,
) -> R:
    """Make the call of `Connection.request`."""
    message = events_pb2.EmitRequest.FromString(emit)
    try:
        answer = await call(
            channel,
            method,
            events_pb2.CallRequest(emit=message, timeout=duration(timeout_s)),
            timeout_s=timeout_s + _GRACE_S,
            uid=uid,
        )
    except WalnatsdError as error:
        if error.reason == "DUPLICATE" and error.maybe_stored:
            # of ourselves, from before the connection broke; who waited for its answer was the call that is lost
            raise UnavailableError(
                "the connection to the sidecar broke while the answer was awaited; the message is stored and will be "
                "handled, its answer is lost",
                SIDECAR_UNAVAILABLE,
                uid=error.uid,
                maybe_stored=True,
            ) from None
        raise
    return event.decode_response(answer.payload)
