"""Messages for later: the server keeps them and puts them among those that are due when their time has come.

A schedule is a message of the stream `walnatsd` whose subject names the event's stream and the uid, so there is one per
uid of an event. The server would let a second one replace the first; it is told to expect none, and the first one stays.

What is due waits in the same stream, on a subject of the same form, for a sidecar to store it in the stream of its event
(`emit.due`). That can't be the server's doing: the target of a schedule must lie in its own stream, and streams of events
must not allow schedules, for the walnats library could not register them any more.

Servers before 2.12 have no schedules; see `broker.own_streams`.
"""

import base64
import contextlib
import hashlib
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from walnatsd.broker import own_streams
from walnatsd.broker.envelope import DUE_AT, EVENT, put_back, set_aside
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.inspection import Stored, stored_message
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import DUE, SCHEDULES, WORK, purge
from walnatsd.broker.publisher import Admission, Publisher
from walnatsd.broker.wire import to_ns
from walnatsd.model import headers
from walnatsd.model.message import Message
from walnatsd.model.names import check_event_name, stream_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.payload.cloudevents import rfc3339

DUE_CONSUMER = "due"
DUE_ACK_WAIT_S = 15.0
"""How long what a killed sidecar had in its hands waits for another one; longer than storing is tried."""
ON_ITS_WAY_S = 0.1
"""So near to its time, nobody can tell whether a cancellation still comes before it."""
STUCK_AFTER_S = 60.0
"""From when on a message that is due and not stored may be discarded: it has been tried several times."""


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message whose time has come, as it is stored in the stream of its event."""

    event: str
    payload: bytes
    header: Mapping[str, str]
    due_at: float | None
    """Seconds since the epoch; None where the message does not say it."""
    is_tick: bool = False
    """It comes from a clock, so nobody waits for an answer and the next one follows."""


class ElsewhereError(ValueError):
    """This sidecar lacks what another one has, and the message needs."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message that waits for its time."""

    event: str
    uid: str
    due_at: float
    """Seconds since the epoch. Past where it can't be stored in the stream of its event."""
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list of messages for later."""

    kind: int
    """0 among those that are due, 1 among the others."""
    sequence: int


BEGIN = Place(0, 0)
_PREFIXES = (DUE, SCHEDULES)
_BEYOND_ALL = 2**31 - 1
"""Of a list of subjects, which then comes without any, but with their number."""


class Schedules:
    """The messages for later."""

    def __init__(self, jetstream: JetStream, publisher: Publisher) -> None:
        self._jetstream = jetstream
        self._publisher = publisher

    async def add(
        self,
        event: str,
        payload: bytes,
        header: Mapping[str, str],
        *,
        due_at: float,
        budget_s: float,
        admit: Admission | None = None,
    ) -> bool:
        """Store a message for later.

        Args:
            event: Name of the event.
            payload: The body.
            header: The headers, with the uid.
            due_at: When it is due, in seconds since the epoch.
            budget_s: Seconds that it may take.
            admit: Whether each try may be made; None where all may.

        Returns:
            False where a message of this uid waits already; it stays as it is.

        Raises:
            Refusal: It was not stored, or nobody knows (`maybe_stored`).
        """
        stream, uid = stream_name(event), header[headers.MESSAGE_ID]
        place = f"{stream}.{token(uid)}"
        enclosed = set_aside(header) | {
            # not the uid: who cancels a message must be able to emit another one of the same uid. It protects against
            # our own retry after the message came due; while it waits, the expected sequence does
            headers.MESSAGE_ID: f"schedule:{place}:{secrets.token_hex(8)}",
            headers.EXPECTED_LAST_SUBJECT_SEQUENCE: "0",
            "Nats-Schedule": f"@at {rfc3339(due_at)}",
            "Nats-Schedule-Target": f"{DUE}{place}",
            EVENT: event,
            DUE_AT: repr(due_at),
        }
        try:
            await self._publisher.publish(f"{SCHEDULES}{place}", payload, enclosed, budget_s=budget_s, admit=admit)
        except Refusal as refusal:
            if refusal.reason is Reason.SEQUENCE:
                # servers from 2.12 on look at the sequence before the id, also where it was our own first try that is there
                return refusal.maybe_stored and await self._holds(f"{SCHEDULES}{place}", enclosed[headers.MESSAGE_ID])
            refusal.uid = uid
            raise
        return True  # nobody else has this message id: what it is a duplicate of was our own first try

    async def _holds(self, subject: str, message_id: str) -> bool:
        with contextlib.suppress(BrokerError):
            stored = await stored_message(self._jetstream, WORK, {"last_by_subj": subject})
            return stored is not None and stored.headers.get(headers.MESSAGE_ID) == message_id
        return False

    async def after(self, stream: str, place: Place) -> tuple[Place, Scheduled] | None:
        """Find the next message of an event that is not in its stream yet; those that are due come first.

        Args:
            stream: Name of the event's stream.
            place: Behind which one; `BEGIN` for all of them.

        Raises:
            BrokerError: NATS did not answer.
        """
        for kind, prefix in enumerate(_PREFIXES):
            sequence = place.sequence if kind == place.kind else 0
            while kind >= place.kind:
                which = {"seq": sequence + 1, "next_by_subj": f"{prefix}{stream}.*"}
                stored = await stored_message(self._jetstream, WORK, which)
                if stored is None:
                    break
                sequence = stored.sequence
                if (scheduled := _read_scheduled(stored)) is not None:
                    return Place(kind, sequence), scheduled
        return None

    async def count(self, stream: str) -> int:
        """Count the messages of an event whose time has not come. The server goes through all of them for it.

        Raises:
            BrokerError: NATS did not answer.
        """
        body = {"subjects_filter": f"{SCHEDULES}{stream}.*", "offset": _BEYOND_ALL}
        return int((await self._jetstream.request(f"STREAM.INFO.{WORK}", body)).get("total", 0))

    async def cancel(self, stream: str, uid: str, *, now: float) -> bool:
        """Cancel a message for later.

        One that is due, or will be by the time that the server reads this, is on its way and can't be cancelled, unless it
        has been waiting for long: then it is stuck, and goes. The server takes out of its hands what is due first, and
        stores it after: what is purged between was cancelled as far as anybody can tell, and is stored all the same
        (nats-server 2.15, tried).

        Args:
            stream: Name of the event's stream.
            uid: The message's.
            now: Seconds since the epoch.

        Returns:
            Whether there was one and it is cancelled now.

        Raises:
            BrokerError: NATS did not answer.
        """
        place = f"{stream}.{token(uid)}"
        waiting = await stored_message(self._jetstream, WORK, {"last_by_subj": f"{SCHEDULES}{place}"})
        due_at = _due_at(waiting.headers) if waiting is not None else None
        is_due = due_at is not None and -ON_ITS_WAY_S <= now - due_at < STUCK_AFTER_S
        if not is_due and await purge(self._jetstream, f"{SCHEDULES}{place}"):
            return True
        due = await stored_message(self._jetstream, WORK, {"last_by_subj": f"{DUE}{place}"})
        if due is None or now - due.stored_at < STUCK_AFTER_S:
            return False
        return await purge(self._jetstream, f"{DUE}{place}")

    async def remove(self, stream: str) -> None:
        """Discard all messages for later of an event: it is deleted.

        Raises:
            BrokerError: NATS did not answer.
        """
        for prefix in _PREFIXES:
            await purge(self._jetstream, f"{prefix}{stream}.*")


def _read_scheduled(stored: Stored) -> Scheduled | None:
    """Read a message for later; None where it is another kind of schedule."""
    uid, due_at = put_back(stored.headers).get(headers.MESSAGE_ID), _due_at(stored.headers)
    event = stored.headers.get(EVENT)
    if not uid or due_at is None or not event:
        return None
    return Scheduled(event, uid, due_at, len(stored.payload))


def token(uid: str) -> str:
    """Give what stands for a uid in a subject, where a uid itself may not stand."""
    return base64.b32encode(hashlib.sha256(uid.encode()).digest()).decode().rstrip("=")


async def register_due_consumer(jetstream: JetStream) -> None:
    """Create the consumer that all sidecars share, or bring it up to date.

    What can't be stored now waits in it, so it bounds nothing.

    Raises:
        BrokerError: NATS did not answer, or does not accept it.
    """
    await own_streams.register_consumer(
        jetstream,
        WORK,
        DUE_CONSUMER,
        ack_wait_ns=to_ns(DUE_ACK_WAIT_S),
        description="What is due, to be stored in the stream of its event.",
        filter_subject=f"{DUE}>",
    )


def read_due(message: Message) -> DueMessage:
    """Read a message that is due.

    Raises:
        ValueError: It does not say what it is. Another version of walnatsd may understand it.
    """
    event = message.headers.get(EVENT, "")
    try:
        check_event_name(event)
    except ValueError as error:
        raise ValueError(f"the header {EVENT} names no event: {error}") from None
    header = put_back(message.headers)
    if not header.get(headers.MESSAGE_ID):
        raise ValueError("it has no uid")
    return DueMessage(event, message.payload, header, _due_at(message.headers))


def _due_at(header: Mapping[str, str]) -> float | None:
    with contextlib.suppress(KeyError, ValueError):
        due_at = float(header[DUE_AT])
        if math.isfinite(due_at):
            return due_at
    return None
