"""What a handler knows and says about the message it handles."""

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """Facts about the message being handled."""

    event: str
    """Name of the event."""
    actor: str
    """Name of the actor."""
    uid: str
    """The message's uid; empty where its emitter, not walnatsd, gave none."""
    sequence: int
    """Position in the event's stream. It never goes back, so it is the fence for writes that must not be undone by an
    older message."""
    attempt: int
    """Which attempt this is, from 1. An upper bound: it may skip numbers after a crash."""
    trace_id: str
    """The emitter's trace id; empty where it gave none."""
    headers: Mapping[str, str]
    """All headers of the request, with lower-case names: `ce-…`, `traceparent`, `content-type`, the emitter's own."""


CURRENT: ContextVar[Delivery] = ContextVar("walnatsd_client.delivery")


def current_delivery() -> Delivery:
    """Tell about the message being handled, from anywhere within the handler, in threads of `asyncio.to_thread` too.

    Raises:
        LookupError: No message is being handled here.
    """
    return CURRENT.get()


class Reject(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by a handler: this message can't ever be handled. It becomes a dead letter at once.

    Attributes:
        reason: Why, for whoever looks at the dead letter.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by a handler: try this message again later. Counts as an attempt.

    Attributes:
        after: Wait at least this many seconds; None leaves it to the actor's retry policy.
        reason: Why, for whoever looks at the logs of the sidecar.

    Raises:
        ValueError: `after` is negative or not finite.
    """

    def __init__(self, after: float | None = None, reason: str = "") -> None:
        if after is not None and not 0 <= after < math.inf:
            raise ValueError(f"after is {after}; it must be zero or more seconds")
        super().__init__(after, reason)
        self.after = after
        self.reason = reason
