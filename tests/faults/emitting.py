"""The load: emitters at a steady rate that do what the documentation tells them to, and take down what they are told."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

import aiohttp

import walnatsd_client as walnatsd
from faults.ledger import Ledger

AGAIN_AFTER_S = 0.1
TRIES = 100
MOST_UNDER_WAY = 1000
"""Beyond that an emitter waits, as any service would."""


class RefusedError(Exception):
    """A try failed, as the emitter sees it."""

    def __init__(self, why: str, *, maybe_stored: bool) -> None:
        super().__init__(why)
        self.why = why
        self.maybe_stored = maybe_stored


class Door(Protocol):
    """A way into a sidecar."""

    async def emit(self, event: str, number: int, uid: str) -> int:
        """Emit; gives the sequence, 0 where it was spooled.

        Raises:
            RefusedError: It was not acknowledged.
        """


class ClientDoor:
    """The Python client, which looks for a lost sidecar by itself for 15 s."""

    def __init__(self, connection: walnatsd.Connection) -> None:
        self._connection = connection

    async def emit(self, event: str, number: int, uid: str) -> int:
        try:
            receipt = await self._connection.emit(walnatsd.Event(event, int), number, uid=uid)
        except walnatsd.WalnatsdError as error:
            raise RefusedError(f"{error.reason}: {error.message}", maybe_stored=error.maybe_stored) from None
        return receipt.sequence


class HttpDoor:
    """Plain HTTP, where a connection that breaks means that nobody knows."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def emit(self, event: str, number: int, uid: str) -> int:
        url, header = f"http://sidecar/v1/events/{event}", {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=b"%d" % number, params={"uid": uid}, headers=header) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientConnectorError as error:
            raise RefusedError(f"no connection: {error}", maybe_stored=False) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RefusedError(f"connection lost: {error!r}", maybe_stored=True) from None
        if response.status not in (200, 201, 202):
            raise RefusedError(f"{response.status} {answer['reason']}", maybe_stored=answer["maybe_stored"])
        return int(answer.get("sequence") or 0)


@contextlib.asynccontextmanager
async def doors(grpc_sockets: Sequence[str], http_sockets: Sequence[str]) -> AsyncIterator[list[Door]]:
    """Open a door at each of these Unix sockets."""
    async with contextlib.AsyncExitStack() as stack:
        opened: list[Door] = []
        for path in grpc_sockets:
            opened.append(ClientDoor(await stack.enter_async_context(walnatsd.connect(f"unix:{path}"))))
        for path in http_sockets:
            connector = aiohttp.UnixConnector(path, limit=64)
            timeout = aiohttp.ClientTimeout(total=20)  # the sidecar gives up after 15
            opened.append(
                HttpDoor(await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout)))
            )
        yield opened


class Load:
    """Emits numbers in turn over all doors. What is refused is emitted again under its uid, at the next door."""

    def __init__(self, ledger: Ledger, through: Sequence[Door], events: Sequence[str], numbers: Iterator[int]) -> None:
        self._ledger = ledger
        self._doors = through
        self._events = itertools.cycle(events)
        self._numbers = numbers
        self._room = asyncio.Semaphore(MOST_UNDER_WAY)

    async def run(self, rate: float, ended: asyncio.Event) -> None:
        """Emit so many a second until it is to end; those under way then are seen to their end."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            next_at = loop.time()
            while not ended.is_set():
                await self._room.acquire()
                tasks.create_task(self._emit(next(self._numbers), next(self._events)))
                next_at = max(next_at + 1 / rate, loop.time() - 1.0)  # what a stall cost is not made up for
                await asyncio.sleep(max(0.0, next_at - loop.time()))

    async def run_fast(self, seconds: float, *, callers: int) -> None:
        """Emit as fast as so many callers can, for a time."""
        until = time.monotonic() + seconds

        async def call() -> None:
            while time.monotonic() < until:
                await self._room.acquire()
                await self._emit(next(self._numbers), next(self._events))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(call())

    async def _emit(self, number: int, event: str) -> None:
        uid = f"{event} {number}"
        try:
            for attempt in range(TRIES):
                door = self._doors[(number + attempt) % len(self._doors)]
                self._ledger.emit(uid, event)
                try:
                    sequence = await door.emit(event, number, uid)
                except RefusedError as refused:
                    self._ledger.refuse(uid, refused.why, maybe_stored=refused.maybe_stored)
                    await asyncio.sleep(AGAIN_AFTER_S)
                else:
                    self._ledger.acknowledge(uid, sequence)
                    return
        finally:
            self._room.release()
