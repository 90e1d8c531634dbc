"""Storing with a spool: in NATS where it is there, and on the local disk until it is back."""

import time
from collections.abc import Callable, Sequence
from itertools import groupby

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.publisher import Begun
from walnatsd.broker.wire import head_of
from walnatsd.emit.outgoing import Outgoing
from walnatsd.emit.request import Receipt
from walnatsd.emit.store import Store, see_that_it_will_fit
from walnatsd.model import headers
from walnatsd.model.event import Event
from walnatsd.model.names import stream_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.spool.entry import Entry
from walnatsd.spool.errors import ClosedError, NotKeptError
from walnatsd.spool.spool import Spool

NATS_SHARE = 0.8
"""Share of an emit's time for NATS, where it is there and does not answer; the rest is for the disk."""
RETRY_AFTER_S = 1.0
_NOT_FOR_LATER = {
    headers.EXPECTED_LAST_SEQUENCE: "nobody knows the sequence that it will get, so expected_last_sequence can't be kept",
    headers.REPLY: "nobody would answer a call in time",
}
"""What a message in the spool can't have, by header, and why."""

_log = structlog.get_logger("walnatsd.spool")


class Outbox:
    """Stores messages in NATS, or in the spool; an event that has some there gets all others there, too."""

    def __init__(
        self,
        spool: Spool,
        patient: Store,
        brisk: Store,
        connection: Connection,
        find_event: Callable[[str], Event | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to store.

        Args:
            spool: The disk.
            patient: Stores in NATS, and waits for it while it is away.
            brisk: The same, but gives up as soon as NATS is away.
            connection: Knows whether it is.
            find_event: Finds a declared event.
            clock: Gives the time, in seconds since the epoch.
        """
        self._spool = spool
        self._patient = patient
        self._brisk = brisk
        self._connection = connection
        self._find_event = find_event
        self._clock = clock

    def begin(self, outgoing: Outgoing, event: Event, *, budget_s: float) -> Begun | None:
        """Send an emit of a declared event without waiting, as `Store.begin`; not where others wait in the spool."""
        [begun] = self.begin_all((outgoing,), event, budget_s=budget_s)
        if isinstance(begun, Refusal):
            raise begun
        return begun

    def begin_all(self, outgoing: Sequence[Outgoing], event: Event, *, budget_s: float) -> list[Begun | Refusal | None]:
        """Send emits of one event as `begin` sends one, in order; a refusal stands in the place of its emit."""
        if self._spool.holds(event.name):
            return [None] * len(outgoing)
        begun: list[Begun | Refusal | None] = []
        for why, together in groupby(outgoing, _not_for_later_because):
            if why:
                begun += self._patient.begin_all(list(together), event, budget_s=budget_s)
            else:
                begun += self._brisk.begin_all(list(together), event, budget_s=budget_s * NATS_SHARE)
        return begun

    async def store(self, outgoing: Outgoing, *, budget_s: float, begun: Begun | None = None) -> Receipt:
        """Store a message.

        Raises:
            Refusal: It was stored neither here nor there, or nobody knows (`maybe_stored`).
        """
        if why := _not_for_later_because(outgoing):
            return await self._store_in_nats_alone(outgoing, why, budget_s, begun)
        maybe_stored = False
        if begun is not None or (self._connection.is_connected and not self._spool.holds(outgoing.event)):
            try:
                return await self._brisk.store(outgoing, budget_s=budget_s * NATS_SHARE, begun=begun)
            except Refusal as refusal:
                if refusal.reason is not Reason.NATS_UNAVAILABLE:
                    raise
                maybe_stored = refusal.maybe_stored  # it will be forwarded with the same uid
        return await self._keep(outgoing, maybe_stored=maybe_stored)

    async def _store_in_nats_alone(self, outgoing: Outgoing, why: str, budget_s: float, begun: Begun | None) -> Receipt:
        if begun is None and self._spool.holds(outgoing.event):
            raise Refusal(
                Reason.NATS_UNAVAILABLE,
                f"earlier messages of {outgoing.event!r} wait in the spool, and this one can't join them: {why}",
                uid=outgoing.uid,
                retry_after_s=RETRY_AFTER_S,
            )
        return await self._patient.store(outgoing, budget_s=budget_s, begun=begun)

    async def _keep(self, outgoing: Outgoing, *, maybe_stored: bool) -> Receipt:
        try:
            self._see_that_jetstream_would_take_it(outgoing)
        except Refusal as refusal:
            refusal.maybe_stored |= maybe_stored
            raise
        if not self._spool.queues:
            _log.warning("NATS does not take what is emitted; it is kept in the spool", path=self._spool.settings.path)
        entry = Entry(outgoing.event, outgoing.uid, outgoing.header, outgoing.payload, self._clock(), outgoing.due_at)
        try:
            is_new = await self._spool.append(entry)
        except ClosedError as error:
            raise Refusal(
                Reason.STOPPING, str(error), uid=outgoing.uid, maybe_stored=maybe_stored, retry_after_s=RETRY_AFTER_S
            ) from None
        except NotKeptError as error:
            raise Refusal(
                Reason.NATS_UNAVAILABLE,
                f"NATS does not take it now, and neither does the spool: {error}",
                uid=outgoing.uid,
                maybe_stored=maybe_stored,
                retry_after_s=RETRY_AFTER_S,
            ) from None
        return Receipt(
            outgoing.uid,
            stream_name(outgoing.event),
            0,
            duplicate=not is_new and outgoing.has_given_uid,
            scheduled=outgoing.due_at is not None,
            spooled=True,
        )

    def _see_that_jetstream_would_take_it(self, outgoing: Outgoing) -> None:
        """Refuse now what would be refused later, when there is nobody any more to tell: as far as that is known."""
        size = len(head_of(outgoing.header)) + len(outgoing.payload)
        most = self._connection.known_max_payload
        if most is not None and size > most:
            raise Refusal(
                Reason.TOO_LARGE,
                f"headers and payload have {size} bytes, the NATS server takes {most} (max_payload)",
                uid=outgoing.uid,
            )
        event = self._find_event(outgoing.event)
        if event is not None:
            see_that_it_will_fit(event, outgoing)
        queue = self._spool.queues.get(outgoing.event)
        if queue is not None and queue.is_full:
            raise Refusal(
                Reason.EVENT_FULL,
                f"{queue.messages} messages in the spool wait for room already: {queue.waits_for}",
                uid=outgoing.uid,
            )


def _not_for_later_because(outgoing: Outgoing) -> str:
    """Say why a message can't wait in the spool; empty where it can."""
    header = outgoing.header
    return next((why for name, why in _NOT_FOR_LATER.items() if name in header), "")
