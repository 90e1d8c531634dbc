"""Counting attempts, and remembering what they came to."""

from collections import OrderedDict
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


class Attempts:
    """What this sidecar knows of the messages that are not settled for good: deferrals and past attempts.

    The server counts hand-overs; those that are known to have been no attempt that counts are taken off. This knowledge
    is lost with the process, so the attempt number is an upper bound.
    """

    def __init__(self) -> None:
        self._deferrals: OrderedDict[Key, int] = OrderedDict()
        self._histories: OrderedDict[Key, tuple[Attempt, ...]] = OrderedDict()
        self._size = 0

    def number(self, delivery: Delivery) -> int:
        """Which attempt the next one is, from 1."""
        return max(1, delivery.attempts_before + delivery.deliveries - self._deferrals.get(delivery.key, 0))

    def defer(self, delivery: Delivery) -> None:
        """Take note that a hand-over did not count."""
        self._deferrals[delivery.key] = self._deferrals.pop(delivery.key, 0) + 1
        if len(self._deferrals) > REMEMBERED_MESSAGES:
            self._deferrals.popitem(last=False)

    def remember(self, delivery: Delivery, attempt: Attempt) -> None:
        """Take note of an attempt."""
        known = self._histories.pop(delivery.key, ())
        history = self._histories[delivery.key] = (*known, attempt)[-REMEMBERED_ATTEMPTS:]
        self._size += _size(history) - _size(known)
        while self._size > REMEMBERED_CHARACTERS:
            self._size -= _size(self._histories.popitem(last=False)[1])

    def history(self, delivery: Delivery, attempts: int) -> History:
        """Give what is known of the attempts at a message, of which there were `attempts` that count."""
        known = self._histories.get(delivery.key, ())
        numbers = {attempt.number for attempt in known}
        return History(known, complete=set(range(1, attempts + 1)) <= numbers)

    def forget(self, delivery: Delivery) -> None:
        """Forget a message that is settled for good."""
        self._deferrals.pop(delivery.key, None)
        self._size -= _size(self._histories.pop(delivery.key, ()))


def _size(history: tuple[Attempt, ...]) -> int:
    return sum(100 + len(attempt.outcome.answer) for attempt in history)
