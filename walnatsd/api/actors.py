"""What callers can do with actors."""

from collections.abc import Sequence

from walnatsd.api.roster import Roster
from walnatsd.broker.registration import Registered
from walnatsd.model.actor import Actor


class Actors:
    """The use cases of the `Actors` service."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    async def register(self, actors: Sequence[Actor]) -> list[Registered]:
        """Declare actors until the daemon stops and start their dispatch; raises `Refusal`."""
        return [await self._roster.register_actor(actor) for actor in actors]
