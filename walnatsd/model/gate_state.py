"""Whether attempts at an actor may start now, in one word."""

from enum import StrEnum


class GateState(StrEnum):
    """`open`, or what keeps attempts from starting; of several reasons the last one in this list."""

    OPEN = "open"
    """Attempts start as messages come."""
    HALF_OPEN = "half-open"
    """One attempt at a time looks if the actor is back."""
    RATE_LIMITED = "rate-limited"
    """The starts of this period are used up."""
    HELD = "held"
    """The actor asked for a rest with `Retry-After`."""
    WAITING_FOR_LISTENER = "waiting-for-listener"
    """Nobody serves the actor over the gRPC stream."""
    WAITING_FOR_PROBE = "waiting-for-probe"
    """`wait_for` has not answered well yet."""
    BREAKER_OPEN = "breaker-open"
    """The actor was not there; it is left alone for a while."""
    PAUSED = "paused"
    """Paused in this sidecar, because the server can't pause the consumer."""
