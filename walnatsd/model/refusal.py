"""Why a call is refused: the reasons of the contract, as one exception."""

from enum import StrEnum

from walnatsd.model.names import check_event_name


class Reason(StrEnum):
    """The `reason` of an error, section 3 of the contract. Codes and statuses are set in one table in `api.errors`."""

    UNKNOWN_EVENT = "UNKNOWN_EVENT"
    UNKNOWN_ACTOR = "UNKNOWN_ACTOR"
    UNKNOWN_DEAD_LETTER = "UNKNOWN_DEAD_LETTER"
    UNKNOWN_MESSAGE = "UNKNOWN_MESSAGE"
    INVALID_NAME = "INVALID_NAME"
    INVALID_HEADER = "INVALID_HEADER"
    INVALID_UID = "INVALID_UID"
    INVALID_TIME = "INVALID_TIME"
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_DECLARATION = "INVALID_DECLARATION"
    INVALID_CONFIG = "INVALID_CONFIG"
    SCHEMA = "SCHEMA"
    TOO_LARGE = "TOO_LARGE"
    CONFLICT = "CONFLICT"
    NO_ACTORS = "NO_ACTORS"
    DUPLICATE = "DUPLICATE"
    NO_RESPONSE = "NO_RESPONSE"
    DEAD_LETTER = "DEAD_LETTER"
    RESPONSE_TOO_LARGE = "RESPONSE_TOO_LARGE"
    EVENT_FULL = "EVENT_FULL"
    BUSY = "BUSY"
    SEQUENCE = "SEQUENCE"
    REPLACED = "REPLACED"
    NOT_READING = "NOT_READING"
    STOPPING = "STOPPING"
    NATS_UNAVAILABLE = "NATS_UNAVAILABLE"
    SPOOL = "SPOOL"
    NATS_ERROR = "NATS_ERROR"
    SERVER_VERSION = "SERVER_VERSION"
    TOKEN = "TOKEN"  # noqa: S105 - no token
    SCOPE = "SCOPE"
    HOST = "HOST"
    ORIGIN = "ORIGIN"
    UNKNOWN_PATH = "UNKNOWN_PATH"
    WRONG_METHOD = "WRONG_METHOD"


class Refusal(Exception):  # noqa: N818 - the field's word for an error that is an answer
    """A call that is answered with an error.

    Attributes:
        reason: Which one.
        message: What is wrong and what to do about it.
        uid: The message's uid, once it is known.
        maybe_stored: True where nobody knows whether the message was stored; retry with the same uid.
        retry_after_s: When to come back, where that is known.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        uid: str = "",
        maybe_stored: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.uid = uid
        self.maybe_stored = maybe_stored
        self.retry_after_s = retry_after_s


def unknown_event(name: str, *, uid: str = "") -> Refusal:
    """Refuse an event that is not declared here: its name may be wrong in itself."""
    try:
        check_event_name(name)
    except ValueError as error:
        return Refusal(Reason.INVALID_NAME, f"{name[:300]!r}: {error}", uid=uid)
    return Refusal(
        Reason.UNKNOWN_EVENT,
        f"the event {name!r} is not declared; add it to events in the config file or register it",
        uid=uid,
    )
