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
        self._forget()
        return min(limit, self._settings.jobs - len(self._starts))

    @property
    def opens_in_s(self) -> float:
        """Seconds until an attempt may start, 0 where it may now."""
        if self._settings is None or self.left(1) > 0:
            return 0.0
        return self._starts[0] + self._settings.period - self._clock()

    def start(self) -> None:
        """Take note of a start."""
        if self._settings is not None:
            self._starts.append(self._clock())

    def _forget(self) -> None:
        assert self._settings is not None
        horizon = self._clock() - self._settings.period
        while self._starts and self._starts[0] <= horizon:
            self._starts.popleft()
