"""What was registered on a connection, to be registered again when the sidecar has restarted and forgotten it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from walnatsd_client._actor import Actor
from walnatsd_client._event import Event

Declaration = Event[Any] | Actor[Any]


class Registrations:
    """The declarations of one connection, the latest of each name."""

    def __init__(self, register: Callable[..., Awaitable[object]]) -> None:
        """Begin with none.

        Args:
            register: Registers declarations, and calls `note` when that is done.
        """
        self.count = 0
        """How often something was registered."""
        self._register = register
        self._declared: dict[tuple[str, ...], Declaration] = {}
        self._one_at_a_time = asyncio.Lock()

    def note(self, declarations: Iterable[Declaration]) -> None:
        """Remember what was registered."""
        self._declared |= {_key(declaration): declaration for declaration in declarations}
        self.count += 1

    async def again(self, declaration: Declaration, *, seen: int) -> bool:
        """Register all of it again, once for all who miss something.

        Args:
            declaration: What is missing in the sidecar.
            seen: The count when it was looked for; whatever was registered since may have brought it back.

        Returns:
            False where it was not registered on this connection, so that nothing was done.

        Raises:
            WalnatsdError: As `Connection.register`.
        """
        if _key(declaration) not in self._declared:
            return False
        async with self._one_at_a_time:
            if self.count == seen:
                await self._register(*self._declared.values())
        return True


def _key(declaration: Declaration) -> tuple[str, ...]:
    return (declaration.event.name, declaration.name) if isinstance(declaration, Actor) else (declaration.name,)
