"""What emitters were told and what actors saw, message by message. Pure: no input, no output, no clock of its own."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SUCCESS = range(200, 300)
UNDER_WAY_S = 4.0
"""A message that the server redelivers just before it reads the ack is under way to an actor when the ack is confirmed: a
duplicate that counts as such, and no message seen after its ack. How long that may take on a machine that has other work;
less than `ack_wait`, after which an ack that was confirmed and lost would show."""


@dataclass(slots=True)
class Emission:
    """One message as its emitter knows it, over all tries under its uid."""

    event: str
    sequence: int = 0
    """Its place in the stream, by the first receipt; 0 before there is one, and where it was spooled."""
    is_acknowledged: bool = False
    is_maybe_stored: bool = False
    """Some try left it open, or is not over."""
    refusals: list[str] = field(default_factory=list)
    """Why tries failed."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One call of an actor."""

    at: float
    status: int
    """What it was answered; 0 where the connection broke off or nothing was answered."""
    sequence: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """The same call as the sidecar tells that made it, once the message is settled."""

    sidecar: str
    number: int
    settled_at: float
    """By the wall clock."""
    took_s: float
    """From the call to the answer. Where this is as long as the call is late, it was made before and came late."""
    decision: str


@dataclass(frozen=True)
class Hole:
    """A time in which confirmed acks may be forgotten, as the documentation says; by the wall clock."""

    since: float
    until: float
    why: str


@dataclass(frozen=True)
class Repeat:
    """A message that an actor saw again after its ack was confirmed."""

    uid: str
    actor: str
    confirmed_at: float
    late_s: float
    """From the confirmation to the last call."""
    attempts: tuple[Attempt, ...] = ()
    """What sidecars tell of the message and this actor."""


@dataclass(frozen=True)
class Findings:
    """The truth about every message, at the end."""

    emitted: int
    acknowledged: int
    refusals: int
    """Tries that the emitter saw fail."""
    refused_because: dict[str, int]
    """How many of them for what reason."""
    in_doubt: int
    """Never acknowledged, and maybe stored."""
    sightings: int
    lost: tuple[tuple[str, str], ...]
    """Acknowledged, and not answered with a success by this actor: uid and actor."""
    duplicates: int
    """Successful calls beyond the first, over all messages and actors."""
    after_ack: tuple[Repeat, ...]
    """Seen again after the ack was confirmed, outside of the holes."""
    forgotten_acks: int
    """Seen again after the ack was confirmed, inside of a hole."""
    wrong_answers: tuple[str, ...]
    """What somebody was told and is not so."""


class Ledger:
    """Takes down what happens, and judges it at the end."""

    def __init__(self, actors: Mapping[str, Iterable[str]]) -> None:
        """Begin.

        Args:
            actors: The actors of each event; every one must see every message.
        """
        self._actors = {event: tuple(names) for event, names in actors.items()}
        self._emissions: dict[str, Emission] = {}
        self._sightings: dict[tuple[str, str], list[Sighting]] = {}
        self._attempts: dict[tuple[str, str], list[Attempt]] = {}
        self._confirmed: dict[tuple[str, str], float] = {}
        self._wanting: set[tuple[str, str]] = set()
        self._handled: set[tuple[str, str]] = set()
        self._excused: dict[tuple[str, str], bool] = {}
        self._excusing: set[str] = set()
        self._stored_at: dict[tuple[str, int], str] = {}
        self._wrong: list[str] = []
        self.holes: list[Hole] = []
        self.acknowledged = 0
        self.refusals = 0
        self.sightings = 0

    # ---- what emitters are told

    def emit(self, uid: str, event: str) -> None:
        """A try begins; until it is over, the message may be stored."""
        self._emissions.setdefault(uid, Emission(event))

    def acknowledge(self, uid: str, sequence: int) -> None:
        """The emitter was told that its message is stored (`sequence` 0: or spooled)."""
        emission = self._emissions[uid]
        if sequence and emission.sequence and emission.sequence != sequence:
            self._wrong.append(f"{uid} was acknowledged as {emission.sequence} and as {sequence}")
        if sequence:
            holder = self._stored_at.setdefault((emission.event, sequence), uid)
            if holder != uid:
                self._wrong.append(f"{uid} and {holder} were both acknowledged as {sequence} of {emission.event}")
        emission.sequence = emission.sequence or sequence
        if emission.is_acknowledged:
            return
        emission.is_acknowledged = True
        self.acknowledged += 1
        keys = {(uid, actor) for actor in self._actors[emission.event]}
        self._wanting |= keys - self._handled
        self._handled -= keys
        self._excuse()

    def refuse(self, uid: str, why: str, *, maybe_stored: bool) -> None:
        """The emitter was told that this try failed."""
        emission = self._emissions[uid]
        emission.refusals.append(why)
        emission.is_maybe_stored |= maybe_stored
        self.refusals += 1

    # ---- what actors see

    def see(self, uid: str, actor: str, sighting: Sighting) -> None:
        """An actor was called with a message, and answered."""
        key = (uid, actor)
        self.sightings += 1
        self._sightings.setdefault(key, []).append(sighting)
        if sighting.status not in SUCCESS:
            return
        if key in self._excused:
            self._excused[key] = True
        elif key in self._wanting:
            self._wanting.remove(key)
        elif (emission := self._emissions.get(uid)) is None or not emission.is_acknowledged:
            self._handled.add(key)

    def attempt(self, uid: str, actor: str, attempt: Attempt) -> None:
        """A sidecar has made an attempt and settled it. It judges nothing; it explains what is judged."""
        self._attempts.setdefault((uid, actor), []).append(attempt)

    def confirm(self, uid: str, actor: str, at: float) -> None:
        """A sidecar has the server's word that the message is settled for this actor."""
        self._confirmed.setdefault((uid, actor), at)

    # ---- what somebody else does to streams and consumers

    def begin_to_excuse(self, actor: str) -> None:
        """Somebody is about to delete the consumer of an actor: what it has not handled may be gone for it, as documented.

        From here on, until `end_excuse`: nothing is kept for it before its consumer is there again.
        """
        self._excusing.add(actor)
        self._excuse()

    def end_excuse(self, actor: str) -> None:
        """The consumer is there again."""
        self._excusing.remove(actor)

    def forget_sequences(self, event: str) -> None:
        """Somebody deleted the stream of an event while it was empty and nobody emitted: it counts from 1 again."""
        self._stored_at = {key: uid for key, uid in self._stored_at.items() if key[0] != event}

    def _excuse(self) -> None:
        for key in [key for key in self._wanting if key[1] in self._excusing]:
            self._wanting.remove(key)
            self._excused[key] = False

    # ---- judging

    @property
    def gone(self) -> int:
        """How many messages never came to an actor whose consumer somebody had deleted."""
        return sum(not came for came in self._excused.values())

    @property
    def wanting(self) -> int:
        """How many acknowledged messages have actors yet to handle, each counted for each actor."""
        return len(self._wanting)

    def failures(self) -> Iterable[tuple[str, str]]:
        """Every try that failed as its emitter saw it: uid and why."""
        return ((uid, why) for uid, emission in self._emissions.items() for why in emission.refusals)

    def wanted_by(self, *actors: str) -> int:
        """The same of these actors alone."""
        return sum(actor in actors for _, actor in self._wanting)

    def findings(self) -> Findings:
        """Go through every message."""
        again, forgotten = self._seen_after_ack()
        return Findings(
            emitted=len(self._emissions),
            acknowledged=self.acknowledged,
            refusals=self.refusals,
            refused_because=dict(Counter(why.split(":")[0] for _, why in self.failures())),
            in_doubt=sum(not each.is_acknowledged and each.is_maybe_stored for each in self._emissions.values()),
            sightings=self.sightings,
            lost=tuple(sorted(self._wanting)),
            duplicates=sum(max(0, _successes(each) - 1) for each in self._sightings.values()),
            after_ack=tuple(again),
            forgotten_acks=forgotten,
            wrong_answers=(*self._wrong, *self._contradictions()),
        )

    def _seen_after_ack(self) -> tuple[list[Repeat], int]:
        again, forgotten = [], 0
        for key, confirmed_at in self._confirmed.items():
            late = [each.at - confirmed_at for each in self._sightings.get(key, ()) if each.at > confirmed_at]
            if late and any(hole.since <= confirmed_at <= hole.until for hole in self.holes):
                forgotten += len(late)
            elif late and max(late) > UNDER_WAY_S:
                again.append(Repeat(*key, confirmed_at, max(late), tuple(self._attempts.get(key, ()))))
        return again, forgotten

    def _contradictions(self) -> Iterable[str]:
        for (uid, actor), sightings in self._sightings.items():
            emission = self._emissions.get(uid)
            if emission is None:
                yield f"{actor} saw {uid}, which nobody emitted"
                continue
            if not emission.is_acknowledged and not emission.is_maybe_stored and emission.refusals:
                yield f"{actor} saw {uid}, whose emitter was told that it is not stored: {emission.refusals[-1]}"
            sequences = {each.sequence for each in sightings} | {emission.sequence} - {0}
            if len(sequences) > 1:
                yield f"{uid} is stored more than once: {sorted(sequences)}"
        for key in self._confirmed:
            if not _successes(self._sightings.get(key, ())):
                yield f"{key[0]} was settled for {key[1]}, which never answered it with a success"


def _successes(sightings: Iterable[Sighting]) -> int:
    return sum(each.status in SUCCESS for each in sightings)
