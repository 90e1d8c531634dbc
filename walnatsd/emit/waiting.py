"""How many delayed emits wait in NATS for their time, for the metrics."""

import asyncio
from collections.abc import Callable, Collection

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.route import Route
from walnatsd.broker.schedules import Schedules
from walnatsd.model.event import Event
from walnatsd.observe.metrics import Metrics

PERIOD_S = 5.0
COUNTED_PER_S = 400.0
"""How many a sidecar has the server count, on average. Counting takes it 2 µs for each, so a million that wait for one event
are counted three times in two hours, and a hundred sidecars that do so take a tenth of a core."""

_log = structlog.get_logger("walnatsd.waiting")

State = tuple[int, int]
"""Messages of the stream `walnatsd`, and its last sequence: nothing comes or goes without changing one of them."""


class Waiting:
    """Counts the delayed emits of each declared event: once per period, if the stream `walnatsd` has changed at all.

    The more of them there are, the less often it counts. Before nats-server 2.12 there is nothing to count, for they wait
    among the messages of the event.
    """

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        schedules: Schedules,
        route: Route,
        events: Callable[[], Collection[Event]],
        metrics: Metrics,
    ) -> None:
        """Prepare.

        Args:
            connection: To wait for.
            jetstream: The API.
            schedules: Counts them.
            route: Registers the stream that they wait in.
            events: Gives the declared ones.
            metrics: Where the numbers are kept.
        """
        self._connection = connection
        self._jetstream = jetstream
        self._schedules = schedules
        self._route = route
        self._events = events
        self._numbers = metrics.in_nats.scheduled
        self._counted: dict[str, tuple[State, float]] = {}
        """By event: how the stream was when they were counted, and from when on they are again, on the loop's clock."""

    async def watch(self) -> None:
        """Count for ever."""
        await self._route.wait_registered()
        while True:
            await self._connection.wait_connected()
            try:
                await self._look()
            except BrokerError as error:
                _log.debug("can't see how many delayed emits wait now", why=str(error))
            await asyncio.sleep(PERIOD_S)

    async def _look(self) -> None:
        info = await self._jetstream.stream(WORK)
        has_schedules = info is not None and info["config"].get("allow_msg_schedules")
        events = self._events() if has_schedules else ()
        for gone in self._numbers.keys() - {event.name for event in events}:
            del self._numbers[gone], self._counted[gone]
        if info is not None:
            state = (info["state"]["messages"], info["state"]["last_seq"])
            for event in events:
                await self._count(event, state)

    async def _count(self, event: Event, state: State) -> None:
        counted_at, again_at = self._counted.get(event.name, (None, 0.0))
        now = asyncio.get_running_loop().time()
        messages = state[0]
        if counted_at == state or (now < again_at and self._numbers[event.name] <= messages):
            return
        number = await self._schedules.count(event.stream) if messages else 0
        self._numbers[event.name] = number
        self._counted[event.name] = state, now + number / COUNTED_PER_S
