"""What a call to the sidecar may raise.

```
WalnatsdError                every error, also one with a reason that this client doesn't know yet
├── InvalidError             the call is wrong: INVALID_…, SCHEMA, TOO_LARGE
├── UnknownEventError        the event is not declared: UNKNOWN_EVENT
├── UnknownActorError        the actor is not declared: UNKNOWN_ACTOR
├── ConflictError            things are not as the call assumes: NO_ACTORS, DUPLICATE, SEQUENCE, CONFLICT, REPLACED
├── CapacityError            there is no room: EVENT_FULL, BUSY, NOT_READING, RESPONSE_TOO_LARGE
├── NoResponseError          nobody answered a request in time: NO_RESPONSE
├── DeadLetterError          the actor gave a request up: DEAD_LETTER
├── UnavailableError         nobody answers in time: NATS_UNAVAILABLE, STOPPING, SIDECAR_UNAVAILABLE
├── AccessError              not allowed: TOKEN, SCOPE
└── UnsupportedError         the NATS server is too old: SERVER_VERSION, NOT_SUPPORTED
```

The reasons are the sidecar's, but for `SIDECAR_UNAVAILABLE`: there the sidecar itself is away. An error that the sidecar
gave no reason for, for that is how a broken call ends, has the name of its gRPC status as reason.
"""

from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped, unused-ignore]
from grpc.aio import AioRpcError

SIDECAR_UNAVAILABLE = "SIDECAR_UNAVAILABLE"

_DOMAIN = "walnatsd"
_DETAILS_KEY = "grpc-status-details-bin"  # where gRPC carries google.rpc.Status


class WalnatsdError(Exception):
    """A call to the sidecar failed.

    Attributes:
        message: What is wrong and what to do about it, for people.
        reason: What is wrong, for programs: one of the words in the drawing above, or a later one.
        uid: The uid of the message. Empty where there is none, or where the sidecar derives it and couldn't tell.
        maybe_stored: Nobody knows whether the message was stored. Emit it again with the same uid.
        retry_after: When to come back, in seconds, where the sidecar said so.
    """

    def __init__(
        self,
        message: str,
        reason: str = "",
        *,
        uid: str = "",
        maybe_stored: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.uid = uid
        self.maybe_stored = maybe_stored
        self.retry_after = retry_after

    def __str__(self) -> str:
        """Name the reason, then say it."""
        return f"{self.reason}: {self.message}"

    def of(self, uid: str) -> "WalnatsdError":
        """Give the same error for one message of several that it befell."""
        return type(self)(
            self.message,
            self.reason,
            uid=self.uid or uid,
            maybe_stored=self.maybe_stored,
            retry_after=self.retry_after,
        )


class InvalidError(WalnatsdError):
    """The call is wrong and stays so: a bad name, header, uid, time or declaration, or a payload that is not accepted."""


class UnknownEventError(WalnatsdError):
    """The event is not declared, neither in the sidecar's file nor by `register`."""


class UnknownActorError(WalnatsdError):
    """The actor is not declared, neither in the sidecar's file nor by `register`."""


class ConflictError(WalnatsdError):
    """Things are not as the call assumes: too few actors, a uid or a last sequence, a declaration that can't be met."""


class CapacityError(WalnatsdError):
    """There is no room: the event's stream is full and refuses, or too much is in flight in the sidecar."""


class UnavailableError(WalnatsdError):
    """Nobody answered within the timeout: NATS, or the sidecar itself. `maybe_stored` tells what that means."""


class NoResponseError(WalnatsdError):
    """Nobody answered a request in time. The message is stored, and will be handled all the same."""


class DeadLetterError(WalnatsdError):
    """The actor gave a request up; the message is a dead letter now, and the error says why."""


class AccessError(WalnatsdError):
    """The sidecar doesn't allow the call: it wants another token (`TOKEN`), or one of another scope (`SCOPE`)."""

    def __str__(self) -> str:
        """Say how to send one, too."""
        return f"{super().__str__()}. Give it to connect(token=…), or set WALNATSD_TOKEN"


class UnsupportedError(WalnatsdError):
    """The NATS server is too old; the message names the version needed."""


_FAMILIES: dict[str, type[WalnatsdError]] = {
    "SCHEMA": InvalidError,
    "TOO_LARGE": InvalidError,
    "UNKNOWN_EVENT": UnknownEventError,
    "UNKNOWN_ACTOR": UnknownActorError,
    "NO_ACTORS": ConflictError,
    "DUPLICATE": ConflictError,
    "SEQUENCE": ConflictError,
    "CONFLICT": ConflictError,
    "REPLACED": ConflictError,
    "EVENT_FULL": CapacityError,
    "BUSY": CapacityError,
    "NOT_READING": CapacityError,
    "RESPONSE_TOO_LARGE": CapacityError,
    "NO_RESPONSE": NoResponseError,
    "DEAD_LETTER": DeadLetterError,
    "NATS_UNAVAILABLE": UnavailableError,
    "STOPPING": UnavailableError,
    "TOKEN": AccessError,
    "SCOPE": AccessError,
    "SERVER_VERSION": UnsupportedError,
    "NOT_SUPPORTED": UnsupportedError,
}


def answer_of(error: AioRpcError) -> WalnatsdError | None:
    """Read the answer of the sidecar out of a gRPC error; None where something else than the sidecar ended the call."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return _refusal(status_pb2.Status.FromString(value))
    return None


def error_of(status: "status_pb2.Status") -> WalnatsdError:
    """Give the error of one of several emits."""
    return _refusal(status) or WalnatsdError(status.message, code_pb2.Code.Name(status.code), maybe_stored=True)


def _refusal(status: "status_pb2.Status") -> WalnatsdError | None:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        # Unpack changes the target only if the type is right.
        detail.Unpack(info)
        detail.Unpack(retry)
    if info.domain != _DOMAIN:
        return None
    family = InvalidError if info.reason.startswith("INVALID_") else _FAMILIES.get(info.reason, WalnatsdError)
    return family(
        status.message,
        info.reason,
        uid=info.metadata.get("uid", ""),
        maybe_stored=info.metadata.get("maybe_stored") == "true",
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
    )
