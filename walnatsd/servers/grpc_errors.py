"""Refusals as gRPC statuses with details."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from walnatsd.api.errors import DOMAIN, TABLE
from walnatsd.model.refusal import Reason, Refusal

_MAX_TOLD_BYTES = 6000
"""How much of the trailers a message may take. gRPC's libraries read 8 KiB of metadata by default, and replace an error that has
more by one of their own, without a reason."""
_MAX_UID_LENGTH = 256
"""What is longer is no uid."""


def status_of(refusal: Refusal) -> status_pb2.Status:
    """Write a refusal as `google.rpc.Status` with ErrorInfo, and RetryInfo where it is known when to come back."""
    info = error_details_pb2.ErrorInfo(
        domain=DOMAIN,
        reason=refusal.reason.value,
        metadata={
            "uid": refusal.uid if len(refusal.uid) <= _MAX_UID_LENGTH else "",
            "maybe_stored": "true" if refusal.maybe_stored else "false",
        },
    )
    details = [_packed(info)]
    if refusal.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(refusal.retry_after_s * 1000))
        details.append(_packed(retry))
    code = grpc.StatusCode[TABLE[refusal.reason].grpc]
    return status_pb2.Status(code=code.value[0], message=refusal.message, details=details)


def unreadable(error: DecodeError) -> Refusal:
    """Say that what came is no message of the contract."""
    return Refusal(Reason.INVALID_REQUEST, str(error))


async def refuse(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> NoReturn:
    """Answer a refusal with its status; the call ends here."""
    try:
        status = status_of(refusal)
        status.message = _cut(refusal.message)  # it travels twice: as grpc-message, and within the details
        await context.abort_with_status(rpc_status.to_status(status))
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None  # the caller has gone; else gRPC logs it as a fault of ours
    raise AssertionError("a call goes on after it was aborted")


class Services:
    """Takes the server's place where generated code adds its handlers, so that `add_to` can make them refuse in words.

    gRPC itself answers a request that can't be parsed with UNKNOWN and the name of an exception.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Mapping[str, Any]] = {}

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Wait for the names of the methods, which come next."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the methods of a service."""
        self._handlers[service] = handlers

    def add_to(self, server: grpc.aio.Server, door: Callable[[Mapping[str, Any]], grpc.GenericRpcHandler]) -> None:
        """Add all of them to the server, behind what `door` makes of the handlers by `service/method`."""
        methods = {
            f"{service}/{name}": _readable(handler)
            for service, handlers in self._handlers.items()
            for name, handler in handlers.items()
        }
        server.add_generic_rpc_handlers((door(methods),))


def _readable(handler: Any) -> Any:
    if handler.unary_unary is None and handler.unary_stream is None:
        return handler

    def read(raw: bytes) -> Any:
        try:
            return handler.request_deserializer(raw)
        except DecodeError as error:
            return unreadable(error)

    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if isinstance(request, Refusal):
            await refuse(context, request)
        return await handler.unary_unary(request, context)

    async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if isinstance(request, Refusal):
            await refuse(context, request)
        await handler.unary_stream(request, context)

    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(stream, read, handler.response_serializer)
    return grpc.unary_unary_rpc_method_handler(answer, read, handler.response_serializer)


def _cut(message: str) -> str:
    """Shorten a message that would not fit into the trailers, percent-encoded (gRPC over HTTP/2) and in base64."""
    told = 0.0
    for place, character in enumerate(message):
        octets = character.encode()
        told += sum(1 if 0x20 <= octet < 0x7F and octet != 0x25 else 3 for octet in octets) + len(octets) * 4 / 3
        if told > _MAX_TOLD_BYTES:
            return f"{message[:place]}…"
    return message


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
