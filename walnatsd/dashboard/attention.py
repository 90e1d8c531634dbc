"""What an operator should look at, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from walnatsd.api.overview import ActorGlance, EventGlance
from walnatsd.api.roster import Key
from walnatsd.dashboard.pages import address


@dataclass(frozen=True, slots=True)
class Worry:
    """Something that is not as it should be."""

    about: str | Key
    """The event, or the event and the actor."""
    what: str
    in_letters: bool = False
    """Whether its dead letters say more."""

    @property
    def link(self) -> str:
        """Where there is more about it."""
        if isinstance(self.about, str):
            return address("tail", event=self.about)
        event, actor = self.about
        return address("dead-letters", of=f"{event}/{actor}") if self.in_letters else address("actors", event, actor)

    @property
    def who(self) -> str:
        """Name what it is about."""
        if isinstance(self.about, str):
            return self.about
        event, actor = self.about
        return f"{actor} of {event}"


def worries(actors: Iterable[ActorGlance], events: Iterable[EventGlance]) -> Iterator[Worry]:
    """Go through all of them."""
    for glance in actors:
        yield from _of_actor(glance)
    for event in events:
        yield from _of_event(event)


def _of_actor(glance: ActorGlance) -> Iterator[Worry]:
    about = glance.actor.event, glance.actor.name
    if glance.state != "open":
        yield Worry(about, f"stands still: {glance.state}{_why(glance)}")
    elif glance.failed:
        total = sum(glance.attempts.outcomes.values())
        yield Worry(about, f"{glance.failed} of {total} attempts of the last minute failed{_why(glance)}")
    if glance.dead_letters:
        yield Worry(about, f"dead letters: {glance.dead_letters}", in_letters=True)
    for drift in glance.drift:
        yield Worry(about, f"is not as it is declared: {drift}")


def _of_event(glance: EventGlance) -> Iterator[Worry]:
    about = glance.event.name
    if glance.refused:
        yield Worry(about, f"{glance.refused} emits of the last minute were refused")
    if glance.orphans:
        yield Worry(about, f"consumers that nobody serves hold messages back: {', '.join(glance.orphans)}")
    for drift in glance.drift:
        yield Worry(about, f"is not as it is declared: {drift}")


def _why(glance: ActorGlance) -> str:
    """Say what the last trouble was, where there was one in the last minute."""
    return (
        f"; the last one: {glance.here.trouble.outcome.reason[:200]}" if glance.failed and glance.here.trouble else ""
    )
