"""Messages that a stream lets go before a consumer has settled them: beyond a limit, too old, purged or deleted.

The server tells nobody. What was never handed over shows in where the consumer stands: its place in the stream is then
ahead of the number of its deliveries. What was handed over is terminated by the server, with an advisory (nats-server
2.10 to 2.15, tried); a purge has none.
"""

from dataclasses import dataclass

import orjson

from walnatsd.broker.inspection import ConsumerState

ADVISORIES = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"
_BY_THE_SERVER = "Unacknowledged message was deleted"
"""The reason of a termination that no client asked for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a consumer stood at some moment."""

    created: str
    place: int
    """The last sequence that was handed over, or that is gone."""
    deliveries: int
    """Hand-overs so far, repeated ones too."""


def standing(consumer: ConsumerState, first_sequence: int) -> Standing:
    """Say where a consumer stands.

    Args:
        consumer: Its state.
        first_sequence: Of its stream, read before the state and not after it: an older one only finds drops later.
    """
    return Standing(consumer.created, max(consumer.delivered, first_sequence - 1), consumer.deliveries)


def dropped_between(before: Standing, after: Standing) -> int:
    """Count messages that were let go before they were handed over. Not too many, as long as the server forgets nothing.

    Each step through the stream is either a hand-over or a message that is gone. Repeated hand-overs are no steps, and
    hide as many drops.
    """
    if before.created != after.created or after.deliveries < before.deliveries:
        return 0  # another consumer of the same name; or a new leader knows less than the old one did
    return max(0, (after.place - before.place) - (after.deliveries - before.deliveries))


def read_advisory(payload: bytes) -> tuple[str, str] | None:
    """Give stream and consumer of a message that was handed over and dropped; None where the advisory is of another kind."""
    try:
        data = orjson.loads(payload)
        return (str(data["stream"]), str(data["consumer"])) if data.get("reason") == _BY_THE_SERVER else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # not the server's: anybody may publish there who is allowed to
