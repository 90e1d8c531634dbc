"""The time of the in-memory sidecar: the loop's, which a test may turn forward."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable


class Alarm:
    """Something to do at a time, unless it is cancelled."""

    __slots__ = ("callback", "cancelled", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget it."""
        self.cancelled = True


class Clock:
    """Runs with the loop's time, some seconds ahead of it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead_s = 0.0
        self._held: float | None = None
        self._numbers = itertools.count()
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Give the time in seconds, from an arbitrary zero."""
        return self._loop.time() + self._ahead_s if self._held is None else self._held

    def wall(self) -> float:
        """Give the time in seconds since the epoch."""
        return time.time() - self._loop.time() + self.now()

    def after(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        """Call back after a while."""
        alarm = Alarm(self.now() + seconds, callback)
        heapq.heappush(self._alarms, (alarm.due, next(self._numbers), alarm))
        self._set_timer()
        return alarm

    def next_due(self) -> float | None:
        """Give the time of the next alarm."""
        while self._alarms and self._alarms[0][2].cancelled:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def turn_to(self, time_s: float) -> None:
        """Turn forward to a time, do what is due, and stand still until `run`: what follows follows at this time."""
        self._held = max(time_s, self.now())
        self._ring()

    def run(self) -> None:
        """Run on, from the time at which the clock stands."""
        if self._held is not None:
            self._ahead_s = self._held - self._loop.time()
            self._held = None
        self._set_timer()

    def close(self) -> None:
        """Do nothing more."""
        self._alarms.clear()
        self._set_timer()

    def _ring(self) -> None:
        while (due := self.next_due()) is not None and due <= self.now():
            _, _, alarm = heapq.heappop(self._alarms)
            alarm.callback()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.next_due()
        if due is not None and self._held is None:
            self._timer = self._loop.call_later(max(due - self.now(), 0), self._ring)
