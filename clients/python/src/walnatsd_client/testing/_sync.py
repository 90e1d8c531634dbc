"""The in-memory connection for blocking code."""

from typing import Any, TypeVar, cast

from walnatsd_client._actor import Actor
from walnatsd_client._connection import Connection
from walnatsd_client._event import Event
from walnatsd_client._sync import SyncConnection
from walnatsd_client.testing._connection import DeadLetter, Emitted, MemoryConnection, connect

T = TypeVar("T")


class MemorySyncConnection(SyncConnection):
    """A connection to a sidecar in memory for code that is not async, made by `connect_sync`."""

    def emitted(self, event: Event[T]) -> tuple[Emitted[T], ...]:
        """Give what was emitted, as `MemoryConnection.emitted` does."""

        async def work(connection: Connection) -> tuple[Emitted[T], ...]:
            return cast("MemoryConnection", connection).emitted(event)

        return self._run(work)

    def dead_letters(self, actor: Actor[Any]) -> tuple[DeadLetter, ...]:
        """Give the dead letters of an actor, in order."""

        async def work(connection: Connection) -> tuple[DeadLetter, ...]:
            return cast("MemoryConnection", connection).dead_letters(actor)

        return self._run(work)

    def settle(self) -> None:
        """Wait until no handler runs, and none would be called without more time passing."""
        self._run(lambda connection: cast("MemoryConnection", connection).settle())

    def advance(self, seconds: float) -> None:
        """Let time pass, as `MemoryConnection.advance` does."""
        self._run(lambda connection: cast("MemoryConnection", connection).advance(seconds))


def connect_sync(*actors: Actor[Any]) -> MemorySyncConnection:
    """Give a connection to a sidecar in memory for blocking code, as `connect` does for code that is async."""
    return MemorySyncConnection(lambda: connect(*actors))
