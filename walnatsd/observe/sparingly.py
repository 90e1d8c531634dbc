"""Saying the same thing again only after a time."""

import math
from collections.abc import Callable, Hashable


class Sparingly:
    """Remembers what was said lately."""

    def __init__(self, period_s: float, clock: Callable[[], float]) -> None:
        """Begin with nothing said.

        Args:
            period_s: So long the same is not said again.
            clock: Gives the time in seconds; it never goes back.
        """
        self._period_s = period_s
        self._clock = clock
        self._said_at: dict[Hashable, float] = {}

    def may_say(self, what: Hashable = None) -> bool:
        """Whether this may be said now; it counts as said then."""
        now = self._clock()
        if now - self._said_at.get(what, -math.inf) < self._period_s:
            return False
        self._said_at = {other: at for other, at in self._said_at.items() if now - at < self._period_s} | {what: now}
        return True
