"""One hand-over of a message by NATS, and its settlement."""

import asyncio

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import NoReplyError, NoRespondersError, NotConnectedError
from walnatsd.broker.wire import AckSubject, Frame, parse_ack_subject
from walnatsd.model.message import Message

SETTLE_TIMEOUT_S = 5.0
SETTLE_PAUSE_S = 0.25

_log = structlog.get_logger("walnatsd.delivery")


Key = tuple[str, int]
"""Names a message in our hands: the stream it was handed over from and its place there."""


class Delivery:
    """A message in our hands until it is settled.

    Settlements are requests: they are repeated until the server confirms them, over reconnects too, because an ack that
    is lost is a duplicate at the actor.
    """

    __slots__ = ("_connection", "_reply", "attempts_before", "deliveries", "key", "message", "pending")

    def __init__(
        self, connection: Connection, reply: str, message: Message, facts: AckSubject, attempts_before: int = 0
    ) -> None:
        self._connection = connection
        self._reply = reply
        self.message = message
        self.key: Key = (facts.stream, facts.sequence)
        self.deliveries = facts.delivered
        """How often the message was handed over from there, this time included."""
        self.attempts_before = attempts_before
        """Attempts that were made before the message came to the stream it was handed over from."""
        self.pending = facts.pending
        """How many messages waited behind this one when it was sent."""

    @classmethod
    def of_event(cls, connection: Connection, event: str, frame: Frame) -> "Delivery":
        """Read a message that comes from an event's stream."""
        facts = parse_ack_subject(frame.reply)
        message = Message(
            event=event,
            payload=frame.payload,
            headers=frame.headers(),
            stream=facts.stream,
            sequence=facts.sequence,
            stored_at=facts.stored_at,
        )
        return cls(connection, frame.reply, message, facts)

    def take_over(self, later: "Delivery") -> None:
        """Settle by a later hand-over of the same message: the server redelivered while this one was in our hands."""
        self._reply = later._reply  # noqa: SLF001 - of the same class
        self.deliveries = later.deliveries

    async def ack(self) -> None:
        """Settle: the message is handled. Returns after the server's confirmation."""
        await self._settle(b"+ACK")

    async def nak(self, after_s: float = 0.0) -> None:
        """Hand the message back, to be delivered again not before `after_s` seconds."""
        await self._settle(b'-NAK {"delay": %d}' % round(after_s * 1e9) if after_s > 0 else b"-NAK")

    async def term(self, reason: str) -> None:
        """Settle: the message is given up. The reason goes into the server's advisory."""
        await self._settle(b"+TERM " + reason.encode("ascii", "replace"))

    def progress(self) -> None:
        """Tell NATS that the job is in progress; nothing is lost if that does not arrive."""
        try:
            self._connection.publish(self._reply, b"+WPI")
        except NotConnectedError:
            return

    async def _settle(self, word: bytes) -> None:
        while True:
            try:
                await self._connection.request(self._reply, word, timeout_s=SETTLE_TIMEOUT_S)
            except NotConnectedError:
                await self._connection.wait_connected()
            except NoReplyError:
                continue
            except NoRespondersError:
                if self._connection.is_connected and await self._is_gone(word):
                    return
            else:
                return

    async def _is_gone(self, word: bytes) -> bool:
        """Try once more: nobody listens on an ack subject while the consumer moves, or when it was deleted."""
        await asyncio.sleep(SETTLE_PAUSE_S)
        try:
            await self._connection.request(self._reply, word, timeout_s=SETTLE_TIMEOUT_S)
        except NoRespondersError:
            _log.warning(
                "the consumer is gone, so there is nothing left to settle",
                stream=self.message.stream,
                sequence=self.message.sequence,
            )
            return True
        except (NoReplyError, NotConnectedError):
            return False
        return True
