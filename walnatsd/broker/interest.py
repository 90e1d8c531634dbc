"""Who is interested in a stream's messages: how many consumers it has, as lately as an emit must know it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from walnatsd.broker.connection import Connection
from walnatsd.broker.inspection import consumer_count
from walnatsd.broker.jetstream import JetStream

KNOWN_FOR_S = 1.0
"""How long a count is believed that is high enough. One that is too low is asked for again before anybody hears of it."""


@dataclass(frozen=True, slots=True)
class _Known:
    count: int | None
    asked_at: float


class Interest:
    """Counts consumers, with one request per stream and second at most while the counts are high enough."""

    def __init__(
        self, connection: Connection, jetstream: JetStream, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._jetstream = jetstream
        self._now = now
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        connection.on_change(lambda _connected: self._known.clear())  # consumers in memory may have gone meanwhile

    async def count(self, stream: str, *, enough: int, again: bool = False) -> int | None:
        """Count a stream's consumers, None where there is no such stream.

        Args:
            stream: Which.
            enough: A count that was at least this high up to `KNOWN_FOR_S` seconds ago is given without asking.
            again: Ask in any case.

        Raises:
            BrokerError: NATS did not answer.
        """
        now = self._now()
        known = self._known.get(stream)
        if not again and known is not None and now - known.asked_at <= KNOWN_FOR_S and (known.count or 0) >= enough:
            return known.count
        async with self._asking.setdefault(stream, asyncio.Lock()):
            known = self._known.get(stream)
            if known is None or known.asked_at < now:  # otherwise somebody asked while this one waited
                asked_at = self._now()
                known = self._known[stream] = _Known(await consumer_count(self._jetstream, stream), asked_at)
            return known.count
