"""One hand-over of a message by NATS, and its settlement."""

import asyncio
from collections.abc import Sequence

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.envelope import NO_PAST, Past, open_up
from walnatsd.broker.errors import BrokerError, NoReplyError, NoRespondersError, NotConnectedError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.wire import AckSubject, Frame, made, parse_ack_subject, to_ns
from walnatsd.model import headers
from walnatsd.model.delay import delay_left_s
from walnatsd.model.message import Message

SETTLE_TIMEOUT_S = 5.0
SETTLE_PAUSE_S = 0.25
LONGEST_SETTLE_PAUSE_S = 4.0
LONGEST_NAK_S = 30 * 86400.0
"""A longer wait comes in parts: of a delay beyond 292 years the server makes none at all."""

FORGOTTEN = "NATS has forgotten that it handed a message over, and will do so again"
GONE = "the consumer is gone, so there is nothing left to settle"
REPLACED = "another message has the place of this one, so there is nothing left to settle"
"""What is logged where a settlement ends without NATS' word. The ledger of tests/faults goes by it."""

_ACK = "+ACK"

_log = structlog.get_logger("walnatsd.delivery")


Key = tuple[str, int]
"""Names a message in our hands: the stream it was handed over from and its place there."""


class Delivery:
    """A message in our hands until it is settled.

    Settlements are requests: they are repeated until the server confirms them, over reconnects too, because an ack that
    is lost is a duplicate at the actor.
    """

    deliveries: int
    """How often the message was handed over from there, this time included."""

    __slots__ = (
        "_connection", "_consumer", "_deferred_first", "_jetstream", "_past", "_reply", "deliveries", "has_past", "is_handed_back",
        "is_replaced", "key", "message", "pulsed_at",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        reply: str,
        message: Message,
        facts: AckSubject,
        past: Past = NO_PAST,
    ) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._reply = reply
        self._past = past
        self.has_past = past is not NO_PAST
        """Whether something is known of it from before it came to the stream it was handed over from."""
        self._deferred_first = False
        self.message = message
        stream, self._consumer, self.deliveries, sequence, _ = facts
        self.key: Key = (stream, sequence)
        self.is_handed_back = False
        """A nak is on its way: a hand-over that comes now is the next one, even where it overtakes the confirmation."""
        self.is_replaced = False
        """Another message has its place, for the stream was deleted and made anew. JetStream settles by the place alone: what is
        said of this one would be taken for that one."""
        self.pulsed_at = 0.0
        """When NATS was last told that it is in our hands, by the clock of who tells it."""

    @classmethod
    def of_event(cls, connection: Connection, jetstream: JetStream, event: str, frame: Frame) -> "Delivery":
        """Read a message that comes from an event's stream."""
        _, reply, payload, head = frame
        facts = parse_ack_subject(reply)
        stream, _, _, sequence, stored_at = facts
        header: dict[str, str] = {}
        if head:
            header = frame.headers()
            header.pop(headers.PIN, None)  # of the hand-over, not of the message
        message = made(Message, (event, payload, header, stream, sequence, stored_at, 0))
        return cls(connection, jetstream, reply, message, facts)

    @classmethod
    def of_route(
        cls, connection: Connection, jetstream: JetStream, event: str, stream: str, frame: Frame
    ) -> "Delivery":
        """Read a message that comes from the route of an actor: one that was parked or is replayed."""
        facts = parse_ack_subject(frame.reply)
        message, past = open_up(frame, facts, event=event, stream=stream)
        delivery = cls(connection, jetstream, frame.reply, message, facts, past)
        delivery._deferred_first = _is_early(message, facts.stored_at)
        return delivery

    @property
    def origin(self) -> Key:
        """Names the message over all hand-overs: the event's stream and its place there."""
        return (self.message.stream, self.message.sequence)

    @property
    def is_on_route(self) -> bool:
        """Whether it was handed over from the route of its actor."""
        return self.key[0] != self.message.stream

    @property
    def attempts_before(self) -> int:
        """Attempts that were made before the message came to the stream it was handed over from."""
        return self._past.attempts

    @property
    def hand_overs(self) -> int:
        """How often the message was handed over for this actor at all, this time included."""
        return self._past.hand_overs + self.deliveries

    @property
    def presumed_deferrals(self) -> int:
        """Hand-overs that were too early for an attempt, as far as the message itself tells."""
        return int(self._deferred_first and self.deliveries > 1)

    @property
    def dead_letter(self) -> int:
        """Place of the dead letter that this is a replay of; 0 where it is none."""
        return self._past.dead_letter

    def take_over(self, later: "Delivery") -> None:
        """Settle by a later hand-over of the same message: the server redelivered while this one was in our hands."""
        self._reply = later._reply  # noqa: SLF001 - of the same class
        self.deliveries = later.deliveries

    async def ack(self) -> bool:
        """Settle: the message is handled. Returns after the server's confirmation.

        Returns:
            False where the server has forgotten that it handed the message over: it will do so again.
        """
        return await self._settle(_ACK.encode())

    @staticmethod
    async def ack_all(deliveries: Sequence["Delivery"]) -> Sequence["Delivery"]:
        """Settle some at once: they are handled. Returns after the server has confirmed each.

        They are said in one piece and their confirmations counted. Where one is missing, nobody knows which; then each is
        said again by itself, and it is harmless to say an ack twice.

        Returns:
            Those of which the server has forgotten that it handed them over: it will do so again.
        """
        if len(deliveries) == 1:
            return () if await deliveries[0].ack() else deliveries
        if any(delivery.is_replaced for delivery in deliveries):
            return await Delivery._ack_each(deliveries)
        replies = [delivery._reply for delivery in deliveries]  # noqa: SLF001 - of the same class
        try:
            await deliveries[0]._connection.say_all(replies, _ACK, timeout_s=SETTLE_TIMEOUT_S)  # noqa: SLF001
        except (NotConnectedError, NoReplyError, NoRespondersError):
            return await Delivery._ack_each(deliveries)
        return ()

    @staticmethod
    async def _ack_each(deliveries: Sequence["Delivery"]) -> Sequence["Delivery"]:
        confirmed = await asyncio.gather(*(delivery.ack() for delivery in deliveries))
        return [delivery for delivery, is_confirmed in zip(deliveries, confirmed, strict=True) if not is_confirmed]

    async def nak(self, after_s: float = 0.0) -> None:
        """Hand the message back, to be delivered again not before `after_s` seconds, or after 30 days."""
        self.is_handed_back = True
        delay_ns = to_ns(min(after_s, LONGEST_NAK_S))
        await self._settle(b'-NAK {"delay": %d}' % delay_ns if delay_ns > 0 else b"-NAK")

    async def term(self, reason: str) -> bool:
        """Settle: the message is given up. The reason goes into the server's advisory.

        Returns:
            As `ack`.
        """
        return await self._settle(b"+TERM " + reason.encode("ascii", "replace"))

    def progress(self) -> None:
        """Tell NATS that the job is in progress; nothing is lost if that does not arrive."""
        if self.is_handed_back:
            return  # it would undo the delay of the nak
        try:
            self._connection.publish(self._reply, b"+WPI")
        except NotConnectedError:
            return

    async def _settle(self, word: bytes) -> bool:
        pause_s = SETTLE_PAUSE_S
        while not self.is_replaced:
            try:
                await self._connection.request(self._reply, word, timeout_s=SETTLE_TIMEOUT_S)
            except NotConnectedError:
                await self._connection.wait_connected()
            except NoReplyError:
                if await self._is_forgotten():
                    return False
            except NoRespondersError:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_SETTLE_PAUSE_S)
                if await self._is_gone():
                    return True
            else:
                return True
        self._tell(REPLACED)
        return True

    async def _is_forgotten(self) -> bool:
        """Tell whether the server knows nothing of the hand-over.

        It writes down some 100 ms later what it handed over; if it is killed before, or a leader before the others know,
        it begins again further back. An ack of what lies ahead of that it leaves unanswered for ever (nats-server 2.15,
        tried), so who waits for the answer would have his hands full for ever, and never be handed the message again.
        """
        try:
            info = await self._jetstream.consumer(self.key[0], self._consumer)
        except BrokerError:
            return False
        if info is None or self.key[1] <= info.get("delivered", {}).get("stream_seq", 0):
            return False
        self._tell(FORGOTTEN)
        return True

    async def _is_gone(self) -> bool:
        """Tell a deleted consumer from one that has no leader just now; nobody listens on either's ack subjects."""
        try:
            info = await self._jetstream.consumer(self.key[0], self._consumer)
        except BrokerError:
            return False
        if info is not None:
            return False
        self._tell(GONE)
        return True

    def _tell(self, why: str) -> None:
        """Say why a settlement ends without NATS' word."""
        _log.warning(why, stream=self.key[0], consumer=self._consumer, sequence=self.message.sequence)


def _is_early(message: Message, stored_at: float) -> bool:
    """Whether a message was stored before it may be handled: then its first hand-over came too early."""
    try:
        return delay_left_s(message.headers, stored_at) > 0
    except ValueError:
        return False
