"""When messages that are waited for one by one leave: together, where they come close to one another."""

import asyncio
from collections.abc import Callable

TICK_S = 0.001
"""How long the next one is waited for. The event loop's timers are no finer."""
MOST_TICKS = 3
"""What a message can lose by waiting for others."""
MOST_TOGETHER = 16
"""Above this there is little left to share, and the server should have something to do meanwhile."""
FEW = 4
"""Up to this, nobody waits while the server has nothing to do: there is more to lose than to share."""


class GroupCommit:
    """Learns how many callers emit at the same time, and lets their messages leave in one write.

    A write, and the wake-ups that it causes in the server and here, cost as much as the emit itself. Databases commit the
    transactions of many callers in one write to the disk for the same reason, and under the same name. Who is alone never
    waits: more than one is expected only after a message came while others were waiting, and for no longer than they do come.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        """Begin with one caller.

        Args:
            leave: Sends all that is held back, and says so with `left`.
        """
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._expected = 1
        self._held = 0
        self._unanswered = 0
        self._seen = 0
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self) -> None:
        """Hold a message back, or let it leave with all that are."""
        self._held += 1
        if (together := self._held + self._unanswered) > self._expected:
            self._expected = min(together, MOST_TOGETHER)
        if self._held >= self._expected:
            self._leave()
        elif self._timer is None:
            self._seen, self._ticks = self._held, 0
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def left(self) -> None:
        """Note that all that was held back has left."""
        self._unanswered += self._held
        self._held = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered(self) -> None:
        """Note that one of those that left is waited for no longer."""
        if self._unanswered:
            self._unanswered -= 1
            if not self._unanswered and self._held and self._expected <= FEW:
                self._leave()
        elif self._held:
            self._held -= 1  # the library wrote it, together with a PING or a subscription of its own

    def forget(self) -> None:
        """Note that the connection is lost, and all that was sent with it."""
        self.left()
        self._unanswered, self._expected = 0, 1

    def _tick(self) -> None:
        self._ticks += 1
        if self._held == self._seen or self._ticks == MOST_TICKS:
            self._expected = max(1, self._held)
            self._timer = None
            self._leave()
        else:
            self._seen = self._held
            self._timer = self._loop.call_later(TICK_S, self._tick)
