"""The breaker: an actor that is not there is left alone, and nothing is pulled for it meanwhile."""

from collections import deque
from collections.abc import Callable

from walnatsd.model.actor import Breaker as Settings

PROBES_TO_CLOSE = 3


class Breaker:
    """Closed, open for a while, then half open: one attempt at a time until three in a row find the actor there.

    An attempt that is answered counts as found, whatever the answer; only unavailable outcomes count against the actor.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._window: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._in_a_row = 0
        self._open_until: float | None = None
        self._open_for_s = settings.open_for
        self._found = 0

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
        """How many attempts may be in flight, `limit` at most."""
        if self._open_until is None:
            return limit
        return 0 if self.is_open else 1

    def record(self, *, available: bool) -> None:
        """Take note of an attempt's outcome."""
        if self._open_until is not None:
            self._record_probe(available=available)
            return
        now = self._clock()
        self._window.append((now, available))
        self._failures += not available
        self._in_a_row = 0 if available else self._in_a_row + 1
        while self._window and self._window[0][0] <= now - self._settings.window:
            _, was_available = self._window.popleft()
            self._failures -= not was_available
        attempts = len(self._window)
        if self._in_a_row >= self._settings.consecutive or (
            attempts >= self._settings.min_attempts and self._failures / attempts >= self._settings.failure_ratio
        ):
            self._open()

    def _record_probe(self, *, available: bool) -> None:
        if self.is_open:
            return  # an attempt that began before it opened
        if not available:
            self._open_for_s = min(self._open_for_s * 2, self._settings.max_open_for)
            self._open()
            return
        self._found += 1
        if self._found >= PROBES_TO_CLOSE:
            self._open_until = None
            self._open_for_s = self._settings.open_for

    def _open(self) -> None:
        self._open_until = self._clock() + self._open_for_s
        self._found = 0
        self._in_a_row = 0
        self._failures = 0
        self._window.clear()
