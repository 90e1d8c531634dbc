"""What callers can do with delayed emits that are not due yet: list them, cancel them."""

import time
from collections.abc import Callable

import structlog

from walnatsd.api.explained import explained
from walnatsd.api.pages import NO_CURSOR, read_numbers, write_cursor
from walnatsd.api.roster import Roster
from walnatsd.broker.route import Route
from walnatsd.broker.schedules import BEGIN, Place, Scheduled, Schedules
from walnatsd.model.headers import check_uid
from walnatsd.model.names import stream_name
from walnatsd.model.refusal import Reason, Refusal, unknown_event

MAX_PAGE_BYTES = 16 << 20
"""A page ends early when the payloads that were read for it reach this."""

_log = structlog.get_logger("walnatsd.scheduled")


class ScheduledEmits:
    """The use cases around delayed emits. Servers before 2.12 store them with the others, where nobody finds them."""

    def __init__(
        self, schedules: Schedules, route: Route, roster: Roster, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._schedules = schedules
        self._route = route
        self._roster = roster
        self._clock = clock

    async def page(self, event: str, *, limit: int, cursor: str | None) -> tuple[list[Scheduled], str | None]:
        """List the delayed emits of an event that are not in its stream yet, with the next cursor.

        Those that are due and can't be stored come first; the others in the order in which they were emitted.

        Raises:
            Refusal: INVALID_NAME; UNKNOWN_EVENT; INVALID_REQUEST: the cursor is none of ours; NATS_UNAVAILABLE;
                SERVER_VERSION.
        """
        self._see_that_it_is_possible(event, "listing")
        place = _read_place(cursor) if cursor is not None else BEGIN
        found: list[Scheduled] = []
        read_bytes = 0
        while len(found) < limit and read_bytes < MAX_PAGE_BYTES:
            after = await self._after(event, place)
            if after is None:
                return found, None
            place, scheduled = after
            found.append(scheduled)
            read_bytes += scheduled.payload_bytes
        return found, _write_place(place) if await self._after(event, place) is not None else None

    async def cancel(self, event: str, uid: str) -> bool:
        """Cancel a delayed emit.

        Returns:
            Whether there was one and it is cancelled now. One that is due is on its way, and is not.

        Raises:
            Refusal: INVALID_NAME; INVALID_UID; UNKNOWN_EVENT; NATS_UNAVAILABLE; SERVER_VERSION.
        """
        try:
            check_uid(uid)
        except ValueError as error:
            raise Refusal(Reason.INVALID_UID, f"{error}; this one is {uid[:300]!r}") from None
        self._see_that_it_is_possible(event, "cancelling")
        with explained():
            cancelled = await self._schedules.cancel(stream_name(event), uid, now=self._clock())
        if cancelled:
            _log.info("cancelled a delayed emit", event_name=event, uid=uid)
        return cancelled

    async def _after(self, event: str, place: Place) -> tuple[Place, Scheduled] | None:
        with explained():
            return await self._schedules.after(stream_name(event), place)

    def _see_that_it_is_possible(self, event: str, what: str) -> None:
        if self._roster.find_event(event) is None:
            raise unknown_event(event)
        if not self._route.is_registered:
            raise Refusal(
                Reason.NATS_UNAVAILABLE,
                "walnatsd's own stream is not registered in NATS yet; try again",
                retry_after_s=1.0,
            )
        if not self._route.has_schedules:
            raise Refusal(
                Reason.SERVER_VERSION,
                f"{what} delayed emits needs nats-server 2.12 or newer; before, they are stored in the event's stream at once",
            )


def _write_place(place: Place) -> str:
    return write_cursor([str(place.kind), str(place.sequence)])


def _read_place(cursor: str) -> Place:
    kind, sequence = read_numbers(cursor, 2)
    if kind > 1:
        raise Refusal(Reason.INVALID_REQUEST, NO_CURSOR)
    return Place(kind, sequence)
