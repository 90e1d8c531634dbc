"""The error table of the contract, section 3: one row per reason, for gRPC and HTTP alike."""

from dataclasses import dataclass

from walnatsd.model.refusal import Reason, Refusal

DOMAIN = "walnatsd"


@dataclass(frozen=True, slots=True)
class Row:
    """How a reason is told."""

    grpc: str
    """Name of the gRPC status code."""
    http: int
    """The HTTP status."""
    title: str
    """What happened, without the details."""


TABLE: dict[Reason, Row] = {
    Reason.UNKNOWN_EVENT: Row("NOT_FOUND", 404, "unknown event"),
    Reason.UNKNOWN_ACTOR: Row("NOT_FOUND", 404, "unknown actor"),
    Reason.UNKNOWN_DEAD_LETTER: Row("NOT_FOUND", 404, "unknown dead letter"),
    Reason.UNKNOWN_MESSAGE: Row("NOT_FOUND", 404, "unknown message"),
    Reason.INVALID_NAME: Row("INVALID_ARGUMENT", 400, "bad name"),
    Reason.INVALID_HEADER: Row("INVALID_ARGUMENT", 400, "bad header"),
    Reason.INVALID_UID: Row("INVALID_ARGUMENT", 400, "bad uid"),
    Reason.INVALID_TIME: Row("INVALID_ARGUMENT", 400, "bad time"),
    Reason.INVALID_REQUEST: Row("INVALID_ARGUMENT", 400, "bad request"),
    Reason.INVALID_DECLARATION: Row("INVALID_ARGUMENT", 400, "bad declaration"),
    Reason.INVALID_CONFIG: Row("INVALID_ARGUMENT", 400, "bad config"),
    Reason.SCHEMA: Row("INVALID_ARGUMENT", 422, "the payload does not fit the event's schema"),
    Reason.TOO_LARGE: Row("INVALID_ARGUMENT", 413, "too large"),
    Reason.CONFLICT: Row("FAILED_PRECONDITION", 409, "conflicts with what is there"),
    Reason.NO_ACTORS: Row("FAILED_PRECONDITION", 409, "too few actors"),
    Reason.DUPLICATE: Row("ALREADY_EXISTS", 409, "emitted before"),
    Reason.NO_RESPONSE: Row("DEADLINE_EXCEEDED", 504, "nobody answered in time"),
    Reason.DEAD_LETTER: Row("ABORTED", 502, "the actor gave up"),
    Reason.RESPONSE_TOO_LARGE: Row("RESOURCE_EXHAUSTED", 502, "the answer is too large"),
    Reason.EVENT_FULL: Row("RESOURCE_EXHAUSTED", 507, "the event is full"),
    Reason.BUSY: Row("RESOURCE_EXHAUSTED", 429, "too much in flight"),
    Reason.SEQUENCE: Row("ABORTED", 409, "another sequence than expected"),
    Reason.REPLACED: Row("ABORTED", 409, "the actor was declared anew"),
    Reason.NOT_READING: Row("RESOURCE_EXHAUSTED", 429, "the caller does not read"),
    Reason.STOPPING: Row("UNAVAILABLE", 503, "the daemon is stopping"),
    Reason.NATS_UNAVAILABLE: Row("UNAVAILABLE", 503, "NATS is not reachable"),
    Reason.SPOOL: Row("UNAVAILABLE", 503, "the spool can't be read or written"),
    Reason.NATS_ERROR: Row("INTERNAL", 500, "NATS refused it"),
    Reason.SERVER_VERSION: Row("UNIMPLEMENTED", 501, "the NATS server is too old for this"),
    Reason.TOKEN: Row("UNAUTHENTICATED", 401, "no token that is valid here"),
    Reason.SCOPE: Row("PERMISSION_DENIED", 403, "the token does not open this"),
    Reason.HOST: Row("PERMISSION_DENIED", 403, "not called by a name of its own"),
    Reason.ORIGIN: Row("PERMISSION_DENIED", 403, "called by a page of another site"),
    Reason.UNKNOWN_PATH: Row("UNIMPLEMENTED", 404, "no such path"),
    Reason.WRONG_METHOD: Row("UNIMPLEMENTED", 405, "method not allowed"),
}


def problem(refusal: Refusal) -> dict[str, object]:
    """Write a refusal as RFC 9457 problem details."""
    row = TABLE[refusal.reason]
    return {
        "type": "about:blank",
        "title": row.title,
        "status": row.http,
        "detail": refusal.message,
        "reason": refusal.reason.value,
        "uid": refusal.uid,
        "maybe_stored": refusal.maybe_stored,
    }
