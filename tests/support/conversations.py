"""Connections of a receiver that writes its answers byte by byte."""

import asyncio
from collections.abc import Awaitable, Callable

AnswerRequest = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""Is given the head of a request, answers it, and tells whether another one may come on this connection."""


class Conversations:
    """Has each connection's requests answered one after the other."""

    def __init__(self, answer: AnswerRequest) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin with a connection; for `asyncio.start_server`."""
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def break_off(self) -> None:
        """End all of them in the middle of whatever they are at."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
