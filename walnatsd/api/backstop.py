"""The backstop: messages that the server gave up reach their actor all the same."""

import asyncio

import structlog

from walnatsd.api.roster import Roster
from walnatsd.broker import max_deliveries
from walnatsd.broker.connection import Connection
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.envelope import Past
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.max_deliveries import CONSUMER, STREAM, Advisory
from walnatsd.broker.pull import ConsumerGoneError, Pull
from walnatsd.broker.route import Route
from walnatsd.broker.wire import Frame
from walnatsd.config.settings import Manage
from walnatsd.model.actor import Actor
from walnatsd.model.refusal import Refusal
from walnatsd.observe.metrics import Metrics

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0

_log = structlog.get_logger("walnatsd.backstop")


class Backstop:
    """Sees to messages whose consumer somebody gave a `max_deliver`.

    The message goes on the route of its actor and is settled in its consumer; there it has at least one more attempt
    before it can become a dead letter. Advisories are shared among all sidecars; what belongs to none of our actors is
    handed back for another one, less and less often, until it is a week old.
    """

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        route: Route,
        roster: Roster,
        manage: Manage,
        metrics: Metrics,
        *,
        replicas: int,
    ) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._route = route
        self._roster = roster
        self._manage = manage
        self._metrics = metrics
        self._replicas = replicas
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        self._busy = 0

    async def run(self) -> None:
        """See to advisories for ever, one at a time."""
        async with asyncio.TaskGroup() as tasks:
            pull = Pull(
                self._connection,
                self._jetstream,
                stream=STREAM,
                consumer=CONSUMER,
                capacity=lambda: 1 - self._busy,
                receive=self._receive,
            )
            tasks.create_task(self._pull_for_ever(pull), name="backstop/pull")
            while True:
                delivery = await self._waiting.get()
                await self._handle(delivery)
                self._busy -= 1
                pull.wake()

    def _receive(self, frame: Frame) -> None:
        self._busy += 1
        self._waiting.put_nowait(Delivery.of_event(self._connection, self._jetstream, STREAM, frame))

    async def _pull_for_ever(self, pull: Pull) -> None:
        while True:
            await self._connection.wait_connected()
            try:
                await max_deliveries.register(self._jetstream, replicas=self._replicas)
                await pull.run()
            except ConsumerGoneError as error:
                _log.error("somebody deleted walnatsd's own stream or consumer; creating it again", why=str(error))
            except (BrokerError, Refusal) as error:
                _log.error("nobody watches for messages that the server gives up", stream=STREAM, why=str(error))
                await asyncio.sleep(FIRST_PAUSE_S)

    # ---- one advisory

    async def _handle(self, delivery: Delivery) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** min(delivery.deliveries - 1, 10), LONGEST_PAUSE_S)
        try:
            done = await self._see_to(max_deliveries.read_advisory(delivery.message.payload))
        except ValueError as error:
            _log.warning("an advisory makes no sense", why=str(error))
            done = True
        except (BrokerError, Refusal) as error:
            _log.error("a message that the server gave up can't be helped now; trying again", why=str(error))
            done = False
        await (delivery.ack() if done else delivery.nak(pause_s))

    async def _see_to(self, advisory: Advisory) -> bool:
        """Bring a message back; False where its actor is not ours."""
        if await self._jetstream.consumer(advisory.stream, advisory.consumer) is None:
            return True
        actor = self._find_actor(advisory)
        if actor is None:
            return False
        limited = await self._lift(advisory)
        message = await max_deliveries.stuck_message(self._jetstream, advisory, actor.event)
        if message is None:
            return True
        attempts = advisory.deliveries
        if (most := actor.retry_policy.max_attempts) is not None:
            attempts = min(attempts, most - 1)
        await self._route.open(advisory.stream, actor.name)
        uid = f"stuck:{message.stream}:{actor.name}:{message.sequence}:{message.stored_at!r}"
        await self._route.send(actor.name, message, Past(attempts, advisory.deliveries), uid=uid)
        await max_deliveries.settle(self._connection, advisory)
        self._metrics.max_deliveries(actor.event, actor.name).inc()
        _log.error(
            "the server gave a message up, for somebody limited the deliveries of the actor's consumer; it is on the "
            "actor's own route now",
            event_name=actor.event, actor=actor.name, sequence=message.sequence, uid=message.uid,
            deliveries=advisory.deliveries, limit=limited,
        )  # fmt: skip
        return True

    async def _lift(self, advisory: Advisory) -> str:
        """Take the limit away where we may; say what is the case."""
        if not self._manage.update:
            return "stays, for nats.manage.update is false"
        return "lifted" if await max_deliveries.lift(self._jetstream, advisory) else "none any more"

    def _find_actor(self, advisory: Advisory) -> Actor | None:
        for loop in self._roster.actors.values():
            if (loop.actor.stream, loop.actor.name) == (advisory.stream, advisory.consumer):
                return loop.actor
        return None
