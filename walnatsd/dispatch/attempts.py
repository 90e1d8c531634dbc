"""Counting attempts, and remembering what they came to."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from walnatsd.broker.delivery import Delivery, Key
from walnatsd.model.attempt import Attempt

REMEMBERED_MESSAGES = 100_000
REMEMBERED_ATTEMPTS = 30
"""Of one message, the last ones."""
REMEMBERED_CHARACTERS = 8 << 20
"""Of all answers together; the history of the longest unseen message goes first."""


@dataclass(frozen=True, slots=True)
class History:
    """The attempts at one message that this sidecar saw."""

    attempts: tuple[Attempt, ...]
    complete: bool
    """Whether these are all that there were."""

    def as_json(self) -> dict[str, object]:
        """Write it for the `walnats-dead-letter-history` header."""
        return {"complete": self.complete, "attempts": [attempt.as_json() for attempt in self.attempts]}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What this sidecar saw of one message."""

    hand_overs: int
    forgotten: int
    """Attempts that were too many to remember."""
    attempts: tuple[Attempt, ...]

    @property
    def size(self) -> int:
        return 50 + sum(100 + len(attempt.outcome.answer) for attempt in self.attempts)


_NOTHING = _Seen(0, 0, ())


class Attempts:
    """What this sidecar knows of the messages that are not settled for good: deferrals and past attempts.

    The server counts hand-overs; those that are known to have been no attempt that counts are taken off. This knowledge
    is lost with the process, so the attempt number is an upper bound.

    Deferrals belong to the place that a message is handed over from; what was seen of it belongs to the message, for it
    may be parked and come back from another place.
    """

    def __init__(self) -> None:
        self._deferrals: OrderedDict[Key, int] = OrderedDict()
        self._seen: OrderedDict[Key, _Seen] = OrderedDict()
        self._done: OrderedDict[Key, float] = OrderedDict()
        self._size = 0

    def number(self, delivery: Delivery) -> int:
        """Which attempt the next one is, from 1."""
        if not delivery.has_past and not self._deferrals:
            return delivery.deliveries
        deferrals = max(self._deferrals.get(delivery.key, 0), delivery.presumed_deferrals)
        return max(1, delivery.attempts_before + delivery.deliveries - deferrals)

    def defer(self, delivery: Delivery) -> None:
        """Take note of a hand-over without an attempt."""
        self.excuse(delivery)
        self._see(delivery, ())

    def excuse(self, delivery: Delivery) -> None:
        """Take note that the attempt of a hand-over does not count."""
        self._deferrals[delivery.key] = self._deferrals.pop(delivery.key, 0) + 1
        if len(self._deferrals) > REMEMBERED_MESSAGES:
            self._deferrals.popitem(last=False)

    def remember(self, delivery: Delivery, attempt: Attempt) -> None:
        """Take note of an attempt."""
        self._see(delivery, (attempt,))

    def history(self, delivery: Delivery) -> History:
        """Give what is known of the attempts at a message."""
        seen = self._seen.get(delivery.origin, _NOTHING)
        return History(seen.attempts, complete=seen.hand_overs == delivery.hand_overs and not seen.forgotten)

    def park(self, delivery: Delivery) -> None:
        """Take note that a message will come back from another place."""
        self._deferrals.pop(delivery.key, None)

    def forget(self, delivery: Delivery) -> None:
        """Forget a message that is settled for good."""
        self.forget_all((delivery,))

    def forget_all(self, deliveries: Iterable[Delivery]) -> None:
        """Forget messages that are settled for good."""
        if not self._deferrals and not self._seen:
            return
        for delivery in deliveries:
            self._deferrals.pop(delivery.key, None)
            if seen := self._seen.pop(delivery.origin, None):
                self._size -= seen.size

    def keep_done(self, delivery: Delivery) -> None:
        """Take note that a message needs no more attempts, though the server will hand it over again."""
        self._done[delivery.key] = delivery.message.stored_at
        if len(self._done) > REMEMBERED_MESSAGES:
            self._done.popitem(last=False)

    def is_done(self, delivery: Delivery) -> bool:
        """Tell whether a message was handed over again that needs no more attempts. Another one may have its place now."""
        return bool(self._done) and self._done.pop(delivery.key, None) == delivery.message.stored_at

    def _see(self, delivery: Delivery, attempts: tuple[Attempt, ...]) -> None:
        if before := self._seen.pop(delivery.origin, None):
            self._size -= before.size
        else:
            before = _NOTHING
        attempts = (*before.attempts, *attempts)
        kept = attempts[-REMEMBERED_ATTEMPTS:]
        seen = _Seen(before.hand_overs + 1, before.forgotten + len(attempts) - len(kept), kept)
        self._seen[delivery.origin] = seen
        self._size += seen.size
        while self._size > REMEMBERED_CHARACTERS:
            self._size -= self._seen.popitem(last=False)[1].size
