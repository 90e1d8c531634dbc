"""Refusals of the in-memory sidecar, told as the real one tells them."""

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped, unused-ignore]

_CODES = {
    "UNKNOWN_EVENT": grpc.StatusCode.NOT_FOUND,
    "UNKNOWN_ACTOR": grpc.StatusCode.NOT_FOUND,
    "INVALID_DECLARATION": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_HEADER": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_TIME": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_UID": grpc.StatusCode.INVALID_ARGUMENT,
    "NO_ACTORS": grpc.StatusCode.FAILED_PRECONDITION,
    "CONFLICT": grpc.StatusCode.FAILED_PRECONDITION,
    "EVENT_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "SEQUENCE": grpc.StatusCode.ABORTED,
    "DEAD_LETTER": grpc.StatusCode.ABORTED,
    "DUPLICATE": grpc.StatusCode.ALREADY_EXISTS,
    "NO_RESPONSE": grpc.StatusCode.DEADLINE_EXCEEDED,
    "NOT_SUPPORTED": grpc.StatusCode.UNIMPLEMENTED,
}


class Refusal(Exception):  # noqa: N818 - the sidecar's word
    """The sidecar doesn't do what it is asked for."""

    def __init__(self, reason: str, message: str, *, uid: str = "", maybe_stored: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.uid = uid
        self.maybe_stored = maybe_stored

    def status(self) -> "status_pb2.Status":
        """Write it as the contract says, section 3."""
        told = {"uid": self.uid, "maybe_stored": "true" if self.maybe_stored else "false"}
        detail = AnyMessage()
        detail.Pack(error_details_pb2.ErrorInfo(domain="walnatsd", reason=self.reason, metadata=told))
        return status_pb2.Status(code=_CODES[self.reason].value[0], message=self.message, details=[detail])

    def error(self) -> grpc.aio.AioRpcError:
        """Give what a call raises because of it."""
        details = grpc.aio.Metadata(("grpc-status-details-bin", self.status().SerializeToString()))
        return grpc.aio.AioRpcError(_CODES[self.reason], grpc.aio.Metadata(), details, details=self.message)
