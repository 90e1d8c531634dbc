"""An actor that answers when the test says so."""

import asyncio

from aiohttp import web

from support.receiver import Received, Receiver, ok
from support.waiting import until


class Desk:
    """Holds the requests of a receiver until they are answered."""

    def __init__(self, receiver: Receiver) -> None:
        self.waiting: list[asyncio.Future[int]] = []
        self._receiver = receiver
        receiver.answer = self._hold

    async def _hold(self, _received: Received) -> web.StreamResponse:
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        try:
            return web.Response(status=await answer)
        finally:
            if answer in self.waiting:  # who asked has gone
                self.waiting.remove(answer)

    def answer_one(self, status: int) -> None:
        """Answer who came first."""
        self.waiting.pop(0).set_result(status)

    async def answer_all(self, status: int, *, when_there_are: int) -> None:
        """Wait until exactly so many are here, and answer them."""
        await until(lambda: len(self.waiting) == when_there_are)
        while self.waiting:
            self.answer_one(status)

    def open(self) -> None:
        """Answer all that are here and all that come."""
        self._receiver.answer = ok
        while self.waiting:
            self.answer_one(204)
