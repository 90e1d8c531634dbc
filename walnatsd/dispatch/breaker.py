"""The breaker: an actor that is not there is left alone, and nothing is pulled for it meanwhile."""

from collections import deque
from collections.abc import Callable

from walnatsd.model.actor import Breaker as Settings

PROBES_TO_CLOSE = 3
SLICES = 60
"""The sliding window moves in this many steps, so that its memory does not grow with the throughput."""


class Breaker:
    """Closed, open for a while, then half open: one attempt at a time until three in a row find the actor there.

    An attempt that is answered counts as found, whatever the answer; only unavailable outcomes count against the actor.
    Attempts that began before it opened tell nothing of the actor as it is now: they neither count nor stand in the way
    of those that look if it is back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._slices: deque[list[int]] = deque()
        """Which slice of time, its attempts, those of them that found nobody; the latest last."""
        self._attempts = 0
        self._missed = 0
        self._missed_in_a_row = 0
        self._open_until: float | None = None
        self._open_for_s = settings.open_for
        self._found = 0
        self._generation = 0
        self._running = 0
        self._left_over = 0
        """Those of the running attempts that began before it opened."""

    @property
    def is_open(self) -> bool:
        """Whether nothing may be attempted now."""
        return self._open_until is not None and self._clock() < self._open_until

    @property
    def is_half_open(self) -> bool:
        """Whether one attempt at a time may look if the actor is back."""
        return self._open_until is not None and self._clock() >= self._open_until

    @property
    def opens_again_in_s(self) -> float:
        """Seconds until a probe is allowed, 0 where it is."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    def allowance(self, limit: int) -> int:
        """How many attempts may be in flight, those that are in flight counted; `limit` where it is closed."""
        if self._open_until is None:
            return limit
        return 0 if self.is_open else self._left_over + 1

    def start(self) -> int:
        """Take note that an attempt starts; gives what `record` wants to know."""
        self._running += 1
        return self._generation

    def record(self, generation: int, *, available: bool | None) -> None:
        """Take note of what an attempt came to.

        Args:
            generation: What `start` gave.
            available: Whether it found the actor; None where nobody can tell.
        """
        self._running -= 1
        if generation != self._generation:
            self._left_over -= 1
        elif available is None:
            return
        elif self._open_until is None:
            self._count(available=available)
        else:
            self.record_probe(available=available)

    def record_probe(self, *, available: bool) -> None:
        """Take note of whether the actor is back, half open."""
        if not available:
            self._open_for_s = min(self._open_for_s * 2, self._settings.max_open_for)
            self._open()
            return
        self._found += 1
        if self._found >= PROBES_TO_CLOSE:
            self._open_until = None
            self._open_for_s = self._settings.open_for

    def _count(self, *, available: bool) -> None:
        self._slide()
        self._slices[-1][1] += 1
        self._attempts += 1
        if available:
            self._missed_in_a_row = 0
            return
        self._slices[-1][2] += 1
        self._missed += 1
        self._missed_in_a_row += 1
        if self._missed_in_a_row >= self._settings.consecutive or (
            self._attempts >= self._settings.min_attempts
            and self._missed / self._attempts >= self._settings.failure_ratio
        ):
            self._open()

    def _slide(self) -> None:
        """Let the window end in the slice of now."""
        current = int(self._clock() * SLICES / self._settings.window)
        if self._slices and self._slices[-1][0] == current:
            return
        self._slices.append([current, 0, 0])
        while self._slices[0][0] <= current - SLICES:
            _, attempts, missed = self._slices.popleft()
            self._attempts -= attempts
            self._missed -= missed

    def _open(self) -> None:
        self._open_until = self._clock() + self._open_for_s
        self._generation += 1
        self._left_over = self._running
        self._found = 0
        self._slices.clear()
        self._attempts = self._missed = self._missed_in_a_row = 0
