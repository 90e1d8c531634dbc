"""Storing what is ready: in the stream of its event, or for later."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from walnatsd.broker.errors import BrokerError
from walnatsd.broker.inspection import stored_message
from walnatsd.broker.interest import Interest
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.publisher import Admission, Begun, PubAck, Publisher, Room
from walnatsd.broker.route import Route
from walnatsd.broker.schedules import Schedules
from walnatsd.broker.wire import head_of
from walnatsd.emit.outgoing import Outgoing
from walnatsd.emit.request import Receipt
from walnatsd.model import headers
from walnatsd.model.event import Event
from walnatsd.model.names import stream_name
from walnatsd.model.refusal import Reason, Refusal


class Store:
    """Brings messages to NATS."""

    def __init__(
        self,
        jetstream: JetStream,
        publisher: Publisher,
        schedules: Schedules,
        route: Route,
        interest: Interest,
        find_event: Callable[[str], Event | None],
        find_gate: Callable[[str], asyncio.Event | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to store.

        Args:
            jetstream: Tells what is stored where the answer to a first try was lost.
            publisher: Stores what is for now.
            schedules: Stores what is for later.
            route: Knows whether the server has schedules.
            interest: Tells how many actors an event has in NATS.
            find_event: Finds a declared event.
            find_gate: Finds what the emits of an event must wait for, None where they need not.
            clock: Gives the time, in seconds since the epoch.
        """
        self._jetstream = jetstream
        self._publisher = publisher
        self._schedules = schedules
        self._route = route
        self._interest = interest
        self._find_event = find_event
        self._find_gate = find_gate
        self._clock = clock

    def begin(self, outgoing: Outgoing, event: Event, *, budget_s: float) -> Begun | None:
        """Send an emit of a declared event, which is for now, without waiting, where nothing has to be waited for before.

        Returns:
            What is under way: its ack makes a receipt (`receipt_of`), and without one `store` goes on with it. None where
            nothing was sent.

        Raises:
            Refusal: TOO_LARGE; nothing was sent.
        """
        if event.min_actors or self._find_gate(event.name) is not None:
            return None
        return self._publisher.begin(
            event.name, outgoing.header, outgoing.payload, budget_s=budget_s, room=_room(event)
        )

    def begin_all(self, outgoing: Sequence[Outgoing], event: Event, *, budget_s: float) -> list[Begun | Refusal | None]:
        """Send emits of one event as `begin` sends one, in one write; a refusal stands in the place of its emit."""
        if event.min_actors or self._find_gate(event.name) is not None:
            return [None] * len(outgoing)
        messages = [(each.header, each.payload) for each in outgoing]
        return self._publisher.begin_all(event.name, messages, budget_s=budget_s, room=_room(event))

    async def store(self, outgoing: Outgoing, *, budget_s: float, begun: Begun | None = None) -> Receipt:
        """Store an emit, for now or for later; what has become due since it was made is for now.

        Raises:
            Refusal: It was not stored, or nobody knows (`maybe_stored`).
        """
        if outgoing.due_at is not None and outgoing.due_at > self._clock():
            return await self._store_for_later(outgoing, outgoing.due_at, budget_s)
        return await self._store_emit(outgoing, outgoing.header, budget_s, begun)

    async def store_now(
        self, event: str, payload: bytes, header: Mapping[str, str], *, budget_s: float, begun: Begun | None = None
    ) -> PubAck:
        """Store a message in the stream of its event, which need not be declared here.

        Raises:
            Refusal: It was not stored, or nobody knows (`maybe_stored`).
        """
        declared = self._find_event(event)
        return await self._publisher.publish(
            event,
            payload,
            header,
            budget_s=budget_s,
            find_gate=lambda: self._find_gate(event),
            admit=self._admission(declared, header[headers.MESSAGE_ID]),
            room=_room(declared) if declared is not None else None,
            begun=begun,
        )

    async def _store_emit(
        self, outgoing: Outgoing, header: Mapping[str, str], budget_s: float, begun: Begun | None = None
    ) -> Receipt:
        deadline = asyncio.get_running_loop().time() + budget_s
        try:
            ack = await self.store_now(outgoing.event, outgoing.payload, header, budget_s=budget_s, begun=begun)
        except Refusal as refusal:
            expected = header.get(headers.EXPECTED_LAST_SEQUENCE)
            if refusal.reason is not Reason.SEQUENCE or not refusal.maybe_stored or expected is None:
                raise
            if (first := await self._first_try(outgoing, int(expected) + 1, deadline)) is None:
                raise
            ack = first
        return receipt_of(outgoing, ack)

    async def _first_try(self, outgoing: Outgoing, sequence: int, deadline: float) -> PubAck | None:
        """Find what a first try has stored; None where it is not there, or not any more.

        Servers from 2.12 on look at the expected sequence before the id, and so refuse a second try because of the first.
        """
        stream = stream_name(outgoing.event)
        try:
            async with asyncio.timeout_at(deadline):
                stored = await stored_message(self._jetstream, stream, {"seq": sequence})
        except (BrokerError, TimeoutError):
            return None
        if stored is None or stored.headers.get(headers.MESSAGE_ID) != outgoing.uid:
            return None
        return PubAck(stream, sequence, duplicate=True, retried=True)

    # ---- for later

    async def _store_for_later(self, outgoing: Outgoing, due_at: float, budget_s: float) -> Receipt:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + budget_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._route.wait_registered()
        except TimeoutError:
            raise Refusal(
                Reason.NATS_UNAVAILABLE,
                f"not confirmed by NATS within {budget_s:g} s: walnatsd's own stream is not registered there yet",
                uid=outgoing.uid,
                retry_after_s=1.0,
            ) from None
        left_s = deadline - loop.time()
        if not self._route.has_schedules:
            return await self._store_emit(outgoing, {**outgoing.header, headers.DELAY: f"{due_at:.6f}"}, left_s)
        event = self._find_event(outgoing.event)
        if event is not None:
            see_that_it_will_fit(event, outgoing)
        is_new = await self._schedules.add(
            outgoing.event,
            outgoing.payload,
            outgoing.header,
            due_at=due_at,
            budget_s=left_s,
            admit=self._admission(event, outgoing.uid),
        )
        is_duplicate = not is_new and outgoing.has_given_uid
        return Receipt(outgoing.uid, stream_name(outgoing.event), 0, is_duplicate, scheduled=True)

    # ---- what the event wants

    def _admission(self, event: Event | None, uid: str) -> Admission | None:
        """Give what sees before each try that the event has its `min_actors`."""
        if event is None or not event.min_actors:
            return None

        async def see(again: bool) -> None:
            count = await self._interest.count(event.stream, enough=event.min_actors, again=again)
            if count is not None and count < event.min_actors:
                actors = f"{count} actor{'' if count == 1 else 's'}"
                raise Refusal(
                    Reason.NO_ACTORS,
                    f"the event {event.name!r} has {actors} in NATS and min_actors is {event.min_actors}; nothing was stored now. "
                    "Emit again, with the same uid, when its actors are registered",
                    uid=uid,
                )

        return see


def receipt_of(outgoing: Outgoing, ack: PubAck) -> Receipt:
    """Tell what became of an emit that is stored."""
    # of a uid that is new, only our own retry can be the duplicate
    return Receipt(outgoing.uid, ack.stream, ack.sequence, ack.duplicate and outgoing.has_given_uid, ack.retried)


def _room(event: Event) -> Room | None:
    return Room(event.limits.bytes, event.storage == "memory") if event.limits.bytes else None


def see_that_it_will_fit(event: Event, outgoing: Outgoing) -> None:
    """Refuse what the event's stream would not take when its time has come, for then there is nobody any more to tell.

    Raises:
        Refusal: TOO_LARGE.
    """
    size = len(head_of(outgoing.header)) + len(outgoing.payload)
    most = event.limits.message_size
    if most is not None and size > most:
        raise Refusal(
            Reason.TOO_LARGE,
            f"larger than the event's limits.message_size: headers and payload have {size} bytes, it takes {most}",
            uid=outgoing.uid,
        )
    if (room := _room(event)) is not None:
        room.check(event.name, size, outgoing.uid)
