"""The slots of the whole sidecar: how many attempts may be in flight at once, over all actors."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Literal

Priority = Literal["high", "normal", "low"]

HEAD_START_S: dict[Priority, float] = {"high": 0.0, "normal": 1.0, "low": 5.0}
"""How much longer than a high one an actor of this priority waits for its turn. Nobody starves: who has waited longer
than that goes first."""


class Slots:
    """Counted slots. When all are taken, they go to who waits, by priority and then by who came first."""

    def __init__(self, count: int, clock: Callable[[], float]) -> None:
        self._free = count
        self._sharers = 0
        self._clock = clock
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @property
    def free(self) -> int:
        """How many can be taken at once."""
        return 0 if self._waiting else self._free

    @property
    def share(self) -> int:
        """How many free ones an actor may count on, 1 at least: others want some too, and who finds none waits."""
        return max(1, self.free // max(1, self._sharers))

    def join(self) -> None:
        """Take note that an actor has work."""
        self._sharers += 1

    def leave(self) -> None:
        """Take note that an actor has no work any more."""
        self._sharers -= 1

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._waiting)

    def take_at_once(self) -> bool:
        """Take a slot if one is free and nobody waits."""
        if self._free <= 0 or self._waiting:
            return False
        self._free -= 1
        return True

    async def take(self, priority: Priority) -> None:
        """Take a slot, waiting for it in line."""
        if self.take_at_once():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._clock() + HEAD_START_S[priority], next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            else:
                self._waiting = [waiting for waiting in self._waiting if waiting[2] is not turn]
                heapq.heapify(self._waiting)
            raise

    def give_back(self) -> None:
        """Give a slot to whose turn it is, or put it back."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
