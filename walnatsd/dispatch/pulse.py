"""The pulse: one ticker tells NATS that jobs are in progress, for all deliveries of all actors."""

import asyncio
from collections.abc import Callable

from walnatsd.broker.delivery import Delivery

TICK_S = 0.05
PULSES_PER_ACK_WAIT = 3


class Pulse:
    """Sends each kept delivery's in-progress word three times per `ack_wait`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[Delivery, tuple[float, float]] = {}
        self._some = asyncio.Event()

    def keep(self, delivery: Delivery, *, ack_wait_s: float) -> None:
        """Begin to pulse a delivery."""
        period_s = ack_wait_s / PULSES_PER_ACK_WAIT
        self._due[delivery] = (self._clock() + period_s, period_s)
        self._some.set()

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
            self._some.clear()
            if not self._due:
                await self._some.wait()
            # looking ten times per period is often enough, and cheap where ack_wait is long
            await asyncio.sleep(max(TICK_S, min((period for _, period in self._due.values()), default=TICK_S) / 10))
            self.beat()
