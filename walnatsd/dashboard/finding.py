"""What a page shows of what there is: what somebody looks for, and so much of it at a time."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import web

from walnatsd.api.overview import ActorGlance, EventGlance
from walnatsd.api.pages import page_of
from walnatsd.api.roster import Key

T = TypeVar("T")
Name = TypeVar("Name", str, Key)

ROWS = 50
"""Of a table. A sidecar may have a thousand actors, and the page is made on the loop that delivers."""
EVENTS_ON_MAP = 20


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """So much of a list as one page shows."""

    items: Sequence[T]
    found: int
    """How many there are on all pages."""
    cursor: str | None
    """Where the next page begins; None where there is none."""
    is_first: bool


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody looks for: a part of a name, and perhaps only what needs attention."""

    find: str
    trouble: bool

    @classmethod
    def of(cls, request: web.Request) -> "Search":
        """Read it from the address of a page."""
        return cls(request.query.get("find", "").strip(), "trouble" in request.query)

    def actors(self, actors: Sequence[ActorGlance], worrying: Collection[str | Key]) -> list[ActorGlance]:
        """Give the actors that are meant: by their own name or that of their event."""
        return [
            glance
            for glance in actors
            if self._is_in(glance.actor.name, glance.actor.event) and self._is_worth(_key(glance), worrying)
        ]

    def events(self, events: Sequence[EventGlance], worrying: Collection[str | Key]) -> list[EventGlance]:
        """Give the events that are meant: by their own name or that of one of their actors."""
        return [
            glance
            for glance in events
            if self._is_in(glance.event.name, *glance.actors, *glance.elsewhere)
            and self._is_worth(glance.event.name, worrying)
        ]

    def _is_in(self, *names: str) -> bool:
        wanted = self.find.casefold()
        return not wanted or any(wanted in name.casefold() for name in names)

    def _is_worth(self, name: str | Key, worrying: Collection[str | Key]) -> bool:
        return not self.trouble or name in worrying


def actors_part(actors: Sequence[ActorGlance], cursor: str | None) -> Part[ActorGlance]:
    """Cut a page out of actors. Raises as `page_of`."""
    return _part(actors, _key, ROWS, cursor)


def events_part(events: Sequence[EventGlance], cursor: str | None, *, limit: int = ROWS) -> Part[EventGlance]:
    """Cut a page out of events. Raises as `page_of`."""
    return _part(events, lambda glance: glance.event.name, limit, cursor)


def _part(items: Sequence[T], name_of: Callable[[T], Name], limit: int, cursor: str | None) -> Part[T]:
    by_name = {name_of(item): item for item in items}
    names, after = page_of(list(by_name), limit=limit, cursor=cursor or None)
    return Part([by_name[name] for name in names], len(items), after, is_first=not cursor)


def _key(glance: ActorGlance) -> Key:
    return glance.actor.event, glance.actor.name
