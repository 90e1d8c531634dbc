"""Refusals as gRPC statuses with details."""

from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from walnatsd.api.errors import DOMAIN, TABLE
from walnatsd.model.refusal import Refusal


def status_of(refusal: Refusal) -> status_pb2.Status:
    """Write a refusal as `google.rpc.Status` with ErrorInfo, and RetryInfo where it is known when to come back."""
    info = error_details_pb2.ErrorInfo(
        domain=DOMAIN,
        reason=refusal.reason.value,
        metadata={"uid": refusal.uid, "maybe_stored": "true" if refusal.maybe_stored else "false"},
    )
    details = [_packed(info)]
    if refusal.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(refusal.retry_after_s * 1000))
        details.append(_packed(retry))
    code = grpc.StatusCode[TABLE[refusal.reason].grpc]
    return status_pb2.Status(code=code.value[0], message=refusal.message, details=details)


async def refuse(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> NoReturn:
    """Answer a refusal with its status; the call ends here."""
    await context.abort_with_status(rpc_status.to_status(status_of(refusal)))
    raise AssertionError("a call goes on after it was aborted")


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
