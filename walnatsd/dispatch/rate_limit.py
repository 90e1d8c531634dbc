"""The rate limit of an actor: how many attempts may start in any sliding period."""

from collections import deque
from collections.abc import Callable

from walnatsd.model.actor import RateLimit as Settings


class RateLimit:
    """Remembers the starts of the last period. Without settings it limits nothing."""

    def __init__(self, settings: Settings | None, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._starts: deque[float] = deque()

    def left(self, limit: int) -> int:
        """How many attempts may start now, `limit` at most."""
        if self._settings is None:
            return limit
        self._forget(self._clock())
        return min(limit, self._settings.jobs - len(self._starts))

    @property
    def opens_in_s(self) -> float:
        """Seconds until an attempt may start, 0 where it may now."""
        if self._settings is None:
            return 0.0
        now = self._clock()
        self._forget(now)
        return self._counts_for_s(now) if len(self._starts) >= self._settings.jobs else 0.0

    def start(self) -> None:
        """Take note of a start."""
        if self._settings is not None:
            self._starts.append(self._clock())

    def _forget(self, now: float) -> None:
        while self._starts and self._counts_for_s(now) <= 0:
            self._starts.popleft()

    def _counts_for_s(self, now: float) -> float:
        """How long the oldest start still counts. One expression for all that ask, or rounding makes them disagree."""
        assert self._settings is not None
        return self._starts[0] + self._settings.period - now
