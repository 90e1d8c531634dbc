"""A time that is shared by several steps."""

from collections.abc import Callable


class Countdown:
    """What is left of some seconds, which run from `start`."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._ends_at: float | None = None

    def start(self) -> None:
        """Begin to count."""
        self._ends_at = self._clock() + self._seconds

    def share_s(self) -> float:
        """Half of the seconds that are left: what the next step may take, so that the steps after it have time too."""
        if self._ends_at is None:
            return self._seconds / 2
        return max(0.0, self._ends_at - self._clock()) / 2
