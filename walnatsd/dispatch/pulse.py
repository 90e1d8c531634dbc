"""The pulse: one ticker tells NATS that jobs are in progress, for all deliveries of all actors."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping

from walnatsd.broker.delivery import Delivery, Key

TICK_S = 0.05
PULSES_PER_ACK_WAIT = 3

Held = Mapping[Key, Delivery]
"""What an actor holds; it changes all the time."""


class Pulse:
    """Sends each held delivery's in-progress word three times per `ack_wait`.

    It looks through what actors hold, so that a delivery that is settled before it is time for the word costs nothing here.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        """Seconds, going forward: the clock of `Delivery.pulsed_at`."""
        self._held: dict[int, tuple[Held, float]] = {}
        self._sleep_s = math.inf
        self._hurry = asyncio.Event()

    def join(self, held: Held, *, ack_wait_s: float) -> None:
        """Begin to pulse what an actor holds; each delivery has `pulsed_at` set when it is taken."""
        period_s = ack_wait_s / PULSES_PER_ACK_WAIT
        self._held[id(held)] = (held, period_s)
        if _sleep_s(period_s) < self._sleep_s:
            self._hurry.set()

    def leave(self, held: Held) -> None:
        """Stop pulsing what an actor holds."""
        self._held.pop(id(held), None)

    def beat(self) -> None:
        """Pulse what is due."""
        now = self.now()
        for held, period_s in self._held.values():
            before = now - period_s
            for delivery in held.values():
                if delivery.pulsed_at <= before:
                    delivery.progress()
                    delivery.pulsed_at = now

    async def run(self) -> None:
        """Pulse for ever; sleep while there is nothing to pulse."""
        while True:
            self._hurry.clear()
            self._sleep_s = min((_sleep_s(period_s) for _, period_s in self._held.values()), default=math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sleep_s if self._held else None):
                    await self._hurry.wait()  # for a delivery that can't wait so long
            self.beat()


def _sleep_s(period_s: float) -> float:
    """Looking ten times per period is often enough, and cheap where ack_wait is long."""
    return max(TICK_S, period_s / 10)
