"""Counting attempts: hand-overs without those that are known to have been no attempt."""

from collections import OrderedDict

REMEMBERED = 100_000


class Attempts:
    """How often each message was handed over without an attempt that counts, as far as this sidecar knows.

    The count is lost with the process, so the attempt number is an upper bound.
    """

    def __init__(self) -> None:
        self._deferrals: OrderedDict[int, int] = OrderedDict()

    def number(self, sequence: int, deliveries: int) -> int:
        """Which attempt the next one is, from 1."""
        return max(1, deliveries - self._deferrals.get(sequence, 0))

    def defer(self, sequence: int) -> None:
        """Take note that a hand-over did not count."""
        self._deferrals[sequence] = self._deferrals.pop(sequence, 0) + 1
        if len(self._deferrals) > REMEMBERED:
            self._deferrals.popitem(last=False)

    def forget(self, sequence: int) -> None:
        """Forget a message that is settled for good."""
        self._deferrals.pop(sequence, None)
