"""What administrators can do with dead letters: look at them, replay them, discard them."""

from dataclasses import dataclass

import structlog

from walnatsd.api.explained import explained
from walnatsd.api.pages import read_numbers, write_cursor
from walnatsd.broker.dead_letter_stream import DeadLetter, DeadLetterStream
from walnatsd.broker.envelope import Past
from walnatsd.broker.route import Route
from walnatsd.model import headers
from walnatsd.model.names import check_actor_name, check_event_name, stream_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.metrics import Metrics

MAX_PAGE_BYTES = 16 << 20
"""A page ends early when the payloads that were read for it reach this."""
MAX_LOOKED_AT = 2000
"""How many are read for a page of a search: a second or two."""

_log = structlog.get_logger("walnatsd.dead_letters")


@dataclass(frozen=True, slots=True)
class Replays:
    """What became of a number of replays."""

    replayed: int
    failures: tuple[tuple[int, str], ...]
    """Sequence and reason of those that stay dead letters."""
    next_cursor: str | None
    """Where to go on; None where there are no more."""


class DeadLetterOffice:
    """The use cases around dead letters."""

    def __init__(self, stream: DeadLetterStream, route: Route, metrics: Metrics) -> None:
        self._stream = stream
        self._route = route
        self._metrics = metrics

    # ---- looking

    async def page(
        self, event: str | None, actor: str | None, *, limit: int, cursor: str | None, find: str = ""
    ) -> tuple[list[DeadLetter], str | None]:
        """List dead letters, oldest first, of an event and of an actor where they are given; with the next cursor.

        `find` leaves only those that have this text in their uid, their reason or their payload, in capitals or not. NATS
        can't search, so they are read one by one; a page ends early when that has been done with MAX_LOOKED_AT.

        Raises:
            Refusal: INVALID_NAME; INVALID_REQUEST: the cursor is none of ours; NATS_UNAVAILABLE.
        """
        stream = _stream_of(event, actor)
        [place] = read_numbers(cursor, 1) if cursor is not None else [0]
        letters: list[DeadLetter] = []
        looked_at = read_bytes = 0
        while len(letters) < limit and looked_at < MAX_LOOKED_AT and read_bytes < MAX_PAGE_BYTES:
            letter = await self._after(place, stream, actor)
            if letter is None:
                return letters, None
            if _has(letter, find):
                letters.append(letter)
            looked_at += 1
            place, read_bytes = letter.sequence, read_bytes + len(letter.message.payload)
        more = await self._after(place, stream, actor)
        return letters, _write_cursor(place) if more is not None else None

    async def show(self, sequence: int) -> DeadLetter:
        """Read one.

        Raises:
            Refusal: UNKNOWN_DEAD_LETTER; NATS_UNAVAILABLE.
        """
        with explained():
            letter = await self._stream.get(sequence)
        if letter is None:
            raise Refusal(Reason.UNKNOWN_DEAD_LETTER, f"there is no dead letter {sequence}")
        return letter

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count dead letters by stream and actor.

        Raises:
            Refusal: NATS_UNAVAILABLE.
        """
        with explained():
            return await self._stream.counts()

    async def _after(self, place: int, stream: str | None, actor: str | None) -> DeadLetter | None:
        with explained():
            return await self._stream.after(place, stream, actor)

    # ---- doing

    async def discard(self, sequence: int) -> None:
        """Erase one for good. Raises as `show`."""
        letter = await self.show(sequence)
        with explained():
            await self._stream.remove(sequence)
        _log.warning(
            "discarded a dead letter",
            dead_letter=sequence, event_name=letter.message.event, actor=letter.actor, uid=letter.message.uid,
        )  # fmt: skip

    async def replay(self, sequence: int) -> DeadLetter:
        """Hand one to its actor again, and to nobody else. Gives it as it was.

        Raises:
            Refusal: UNKNOWN_DEAD_LETTER; CONFLICT: its actor is not in NATS, or its payload was cut;
                NATS_UNAVAILABLE: say it again, that makes no second one.
        """
        letter = await self.show(sequence)
        await self._open(letter.message.stream, letter.actor)
        await self._replay(letter)
        return letter

    async def replay_many(self, event: str, actor: str, *, limit: int, cursor: str | None) -> Replays:
        """Hand dead letters of an actor to it again, oldest first.

        What can't be replayed stays; the next cursor leads past it. Where NATS goes away half-way, the cursor leads to
        where it stopped. What dies again meanwhile is behind the end that the cursor remembers, so going on by cursors
        comes to an end.

        Raises:
            Refusal: INVALID_NAME; INVALID_REQUEST; CONFLICT: the actor is not in NATS; NATS_UNAVAILABLE.
        """
        stream = _stream_of(event, actor)
        place, end = read_numbers(cursor, 2) if cursor is not None else (0, await self._end())
        replayed = 0
        failures: list[tuple[int, str]] = []
        await self._open(stream_name(event), actor)
        while replayed + len(failures) < limit:
            try:
                letter = await self._after(place, stream, actor)
                if letter is None or letter.sequence > end:
                    return Replays(replayed, tuple(failures), None)
                failure = await self._try_to_replay(letter)
            except Refusal as refusal:
                if refusal.reason is not Reason.NATS_UNAVAILABLE or not (replayed or failures):
                    raise
                break
            if failure:
                failures.append((letter.sequence, failure))
            else:
                replayed += 1
            place = letter.sequence
        return Replays(replayed, tuple(failures), _write_cursor(place, end) if place < end else None)

    async def _end(self) -> int:
        with explained():
            return await self._stream.last_sequence()

    async def _open(self, stream: str, actor: str) -> None:
        with explained():
            await self._route.open(stream, actor)

    async def _try_to_replay(self, letter: DeadLetter) -> str:
        """Replay it; give what stands in the way where it can't be, whatever NATS does."""
        try:
            await self._replay(letter)
        except Refusal as refusal:
            if refusal.reason is Reason.NATS_UNAVAILABLE:
                raise
            return refusal.message
        return ""

    async def _replay(self, letter: DeadLetter) -> None:
        """Put it on the route of its actor first and remove it after, so that it is never lost."""
        if "payload" in (letter.truncated or ""):
            raise Refusal(
                Reason.CONFLICT, f"dead letter {letter.sequence} was too large: the end of its payload is lost"
            )
        dead = letter.message
        header = {name: value for name, value in dead.headers.items() if name != headers.DELAY}  # a replay is for now
        message = dead._replace(headers=header, replay=dead.replay + 1)
        uid = f"replay:{dead.stream}:{letter.actor}:{dead.sequence}:{dead.stored_at!r}:{message.replay}"
        await self._route.send(letter.actor, message, Past(dead_letter=letter.sequence), uid=uid)
        with explained():
            await self._stream.remove(letter.sequence)
        self._metrics.dead_letter_replays.inc()
        _log.info(
            "replayed a dead letter",
            dead_letter=letter.sequence, event_name=dead.event, actor=letter.actor, uid=dead.uid, replay=message.replay,
        )  # fmt: skip


def _has(letter: DeadLetter, text: str) -> bool:
    """Whether the text stands in its uid, its reason or its payload."""
    wanted = text.casefold()
    return not wanted or any(
        wanted in place.casefold()
        for place in (letter.message.uid or "", letter.reason, letter.message.payload.decode(errors="replace"))
    )


def _stream_of(event: str | None, actor: str | None) -> str | None:
    """Check the names; give the event's stream."""
    try:
        if actor is not None:
            check_actor_name(actor)
        return stream_name(check_event_name(event)) if event is not None else None
    except ValueError as error:
        raise Refusal(Reason.INVALID_NAME, str(error)) from None


def _write_cursor(*places: int) -> str:
    return write_cursor([str(place) for place in places])
