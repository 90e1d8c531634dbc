"""The pulse: one ticker tells NATS that jobs are in progress, for all deliveries of all actors."""

import asyncio
import contextlib
import math
from collections.abc import Callable

from walnatsd.broker.delivery import Delivery

TICK_S = 0.05
PULSES_PER_ACK_WAIT = 3


class Pulse:
    """Sends each kept delivery's in-progress word three times per `ack_wait`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[Delivery, tuple[float, float]] = {}
        self._sleep_s = math.inf
        self._hurry = asyncio.Event()

    def keep(self, delivery: Delivery, *, ack_wait_s: float) -> None:
        """Begin to pulse a delivery."""
        period_s = ack_wait_s / PULSES_PER_ACK_WAIT
        self._due[delivery] = (self._clock() + period_s, period_s)
        if _sleep_s(period_s) < self._sleep_s:
            self._hurry.set()

    def drop(self, delivery: Delivery) -> None:
        """Stop pulsing a delivery."""
        self._due.pop(delivery, None)

    def beat(self) -> None:
        """Pulse what is due."""
        now = self._clock()
        for delivery, (due, period_s) in self._due.items():
            if due <= now:
                delivery.progress()
                self._due[delivery] = (now + period_s, period_s)

    async def run(self) -> None:
        """Pulse for ever; sleep while there is nothing to pulse."""
        while True:
            self._hurry.clear()
            self._sleep_s = min((_sleep_s(period_s) for _, period_s in self._due.values()), default=math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sleep_s if self._due else None):
                    await self._hurry.wait()  # for a delivery that can't wait so long
            self.beat()


def _sleep_s(period_s: float) -> float:
    """Looking ten times per period is often enough, and cheap where ack_wait is long."""
    return max(TICK_S, period_s / 10)
