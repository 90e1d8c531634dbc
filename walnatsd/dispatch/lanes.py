"""The lanes of an ordered actor: the messages of one key behind each other, and which of them may go now."""

import heapq
from bisect import insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar


class Stage(Enum):
    """Where a message of a lane is."""

    WAITING = auto()
    """In hand, not before its time."""
    RUNNING = auto()
    """Being attempted, settled or handed back."""
    AWAY = auto()
    """Handed back for its next attempt; the server is about to hand it over again."""


@dataclass(slots=True, eq=False, kw_only=True)
class Place:
    """A message's place in a lane."""

    lane: Hashable
    """Which lane: its key, or something of its own where it has none."""
    sequence: int
    """Position in the stream."""
    stage: Stage = Stage.WAITING
    not_before: float = 0.0
    """While it waits: until when. Seconds on the owner's clock."""
    queued: bool = field(default=False, repr=False)


P = TypeVar("P", bound=Place)


@dataclass(slots=True)
class _Lane(Generic[P]):
    places: list[P] = field(default_factory=list)
    """In stream order."""
    moving: int = 0
    """How many of them are running or away; while there are any, none follows."""

    @property
    def next(self) -> P | None:
        """Who may go when its time has come."""
        return self.places[0] if not self.moving and self.places else None


class Lanes(Generic[P]):
    """Messages by key, each lane in stream order. Only one of a lane moves; the lanes know nothing of each other."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane[P]] = {}
        self._ready: list[tuple[int, int, P]] = []
        self._timed: list[tuple[float, int, int, P]] = []
        self._order = 0
        self.away = 0
        """How many messages are away."""

    def __iter__(self) -> Iterator[P]:
        for lane in self._lanes.values():
            yield from lane.places

    def add(self, place: P) -> None:
        """Put a message into its lane: behind those that the stream holds before it, before those behind it."""
        lane = self._lanes.setdefault(place.lane, _Lane())
        insort(lane.places, place, key=lambda each: each.sequence)
        self._queue_next(lane)

    def ready(self, now: float) -> int:
        """How many lanes have a message that may go now; an upper bound."""
        self._look_at_the_time(now)
        return len(self._ready)

    def take(self, now: float) -> P | None:
        """Take the message that may go now and stands first in the stream; it is running then."""
        self._look_at_the_time(now)
        while self._ready:
            place = heapq.heappop(self._ready)[-1]
            place.queued = False
            if self._is_next(place):
                place.stage = Stage.RUNNING
                self._lanes[place.lane].moving += 1
                return place
        return None

    def next_at(self) -> float | None:
        """When the next message may go that may not go yet; None where there is none such."""
        return self._timed[0][0] if self._timed else None

    def wait(self, place: P, not_before: float) -> None:
        """Let a message that was running, or was away and is back, wait in its place."""
        self.away -= place.stage is Stage.AWAY
        place.stage, place.not_before = Stage.WAITING, not_before
        lane = self._lanes[place.lane]
        lane.moving -= 1
        self._queue_next(lane)

    def send_away(self, place: P, not_before: float) -> None:
        """Keep the place of a running message that is going to be handed over again."""
        self.away += 1
        place.stage, place.not_before = Stage.AWAY, not_before

    def remove(self, place: P) -> None:
        """Take a message out of its lane, and let the next one forward."""
        self.away -= place.stage is Stage.AWAY
        lane = self._lanes[place.lane]
        lane.moving -= place.stage is not Stage.WAITING
        lane.places.remove(place)
        if lane.places:
            self._queue_next(lane)
        else:
            del self._lanes[place.lane]

    def clear(self) -> list[P]:
        """Stop: forget what is away, and take all that waits, which is running then; gives it in stream order."""
        for place in [place for place in self if place.stage is Stage.AWAY]:
            self.remove(place)
        waiting = sorted((place for place in self if place.stage is Stage.WAITING), key=lambda each: each.sequence)
        self._ready, self._timed = [], []
        for place in waiting:
            place.stage, place.queued = Stage.RUNNING, False
            self._lanes[place.lane].moving += 1
        return waiting

    def _queue_next(self, lane: _Lane[P]) -> None:
        place = lane.next
        if place is not None and not place.queued:
            place.queued = True
            self._order += 1
            heapq.heappush(self._timed, (place.not_before, place.sequence, self._order, place))

    def _look_at_the_time(self, now: float) -> None:
        while self._timed and self._timed[0][0] <= now:
            _, sequence, order, place = heapq.heappop(self._timed)
            if self._is_next(place):
                heapq.heappush(self._ready, (sequence, order, place))
            else:
                place.queued = False  # an earlier one came; it queues again when its turn comes

    def _is_next(self, place: P) -> bool:
        lane = self._lanes.get(place.lane)
        return lane is not None and lane.next is place
