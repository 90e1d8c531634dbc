"""Streams of emits: what arrives is stored, and each gets its result, in order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine

from walnatsd.emit.emitter import Emitter
from walnatsd.emit.request import EmitRequest, Receipt
from walnatsd.model.refusal import Refusal

MAX_UNDER_WAY = 1000
"""Emits of one stream whose results were not taken yet."""

Result = Receipt | Refusal


class EmitStreams:
    """All that are open. They may stay open for long, so they are ended when the daemon stops."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._readers: set[asyncio.Task[None]] = set()
        self._why_over: Refusal | None = None

    async def results(
        self, requests: AsyncIterator[EmitRequest], *, deadline_s: float | None = None
    ) -> AsyncGenerator[Result]:
        """Store messages as they arrive, sent in order; give one result per request, in order.

        No more are read while many wait for their results, so a caller that does not read is not read from.

        Args:
            requests: The messages.
            deadline_s: Seconds that the caller waits for each at most, where it said so.

        Raises:
            Refusal: The daemon stops. What has no result by then was not taken in.
        """
        if self._why_over is not None:
            raise self._why_over
        stream = _Stream(lambda request: self._try_emit(request, deadline_s))
        reader = asyncio.create_task(stream.read(requests))  # no TaskGroup: who closes a generator early can't leave it
        reader.add_done_callback(self._forget)
        reader.add_done_callback(lambda _: stream.close())  # not by itself: one that is cancelled at once never begins
        self._readers.add(reader)
        try:
            while (result := await stream.take()) is not None:
                yield result
                stream.room.release()
            if reader.cancelled() and self._why_over is not None:
                raise self._why_over
            reader.result()
        finally:
            reader.cancel()
            stream.drop()

    def _forget(self, reader: asyncio.Task[None]) -> None:
        self._readers.discard(reader)
        if not reader.cancelled():
            reader.exception()  # who waits for results gets it; where nobody does any more, nobody needs it

    async def _try_emit(self, request: EmitRequest, deadline_s: float | None) -> Result:
        try:
            return await self._emitter.emit(request, deadline_s=deadline_s)
        except Refusal as refusal:
            return refusal

    def end(self, why: Refusal) -> None:
        """Take nothing more in, give the results of what is under way, and end."""
        self._why_over = why
        for reader in self._readers:
            reader.cancel()


class _Stream:
    """The emits of one stream."""

    def __init__(self, emit: Callable[[EmitRequest], Coroutine[None, None, Result]]) -> None:
        self.room = asyncio.Semaphore(MAX_UNDER_WAY)
        self._emit = emit
        self._under_way: asyncio.Queue[EmitRequest | asyncio.Task[Result] | None] = asyncio.Queue()
        self._is_idle = False
        """Nothing is under way. Who emits one at a time costs no task: each is seen through where its result is waited for."""

    async def read(self, requests: AsyncIterator[EmitRequest]) -> None:
        """Begin what arrives, as far as there is room."""
        async for request in requests:
            await self.room.acquire()
            if self._is_idle:
                self._is_idle = False
                self._under_way.put_nowait(request)
            else:
                self._under_way.put_nowait(asyncio.create_task(self._emit(request)))

    def close(self) -> None:
        """Note that nothing more will be read."""
        self._under_way.put_nowait(None)

    async def take(self) -> Result | None:
        """Wait for the next result; None where there will be none."""
        self._is_idle = self._under_way.empty()
        match await self._under_way.get():
            case EmitRequest() as request:
                return await self._emit(request)
            case None:
                return None
            case begun:
                return await begun

    def drop(self) -> None:
        """Cancel what nobody waits for any more."""
        while not self._under_way.empty():
            if isinstance(left := self._under_way.get_nowait(), asyncio.Task):
                left.cancel()
