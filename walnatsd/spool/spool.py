"""The spool: what waits on disk, and how much of it there may be."""

import asyncio
import contextlib
import functools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from walnatsd.config.settings import Spool as Settings
from walnatsd.observe.metrics import Metrics
from walnatsd.spool import store
from walnatsd.spool.entry import Entry, Kept, bytes_of, row_of
from walnatsd.spool.errors import FullError, WriteError
from walnatsd.spool.file import open_file
from walnatsd.spool.store import SetAside
from walnatsd.spool.writer import Writer

READ_MESSAGES = 256
READ_BYTES = 256 << 10
"""What is read at once of an event; memory is bounded by that times the number of events."""


@dataclass(slots=True)
class Queue:
    """What waits of one event."""

    messages: int
    bytes: int
    oldest_at: float
    """Seconds since the epoch."""
    waits_for: str = ""
    """What it waits for besides NATS itself, in words: room in the stream and the like."""
    is_full: bool = False
    """It waits for room in the stream."""


class Spool:
    """Messages on disk, in order by event. Made by `open_spool`."""

    def __init__(self, settings: Settings, writer: Writer, now: Callable[[], float]) -> None:
        self.settings = settings
        self._writer = writer
        self._now = now
        self._queues: dict[str, Queue] = {}
        self._bytes = 0
        self._set_aside_messages = 0
        self._set_aside_bytes = 0
        self._next_id = 1
        self._gone: dict[str, int] = {}
        """The last message of an event that is still on the disk only because it did not take the removal."""
        self._appended: Callable[[str], None] = lambda _event: None

    # ---- what there is

    @property
    def queues(self) -> Mapping[str, Queue]:
        """What waits, by event; only events of which something does."""
        return self._queues

    @property
    def messages(self) -> int:
        """How many messages wait to be forwarded."""
        return sum(queue.messages for queue in self._queues.values())

    @property
    def bytes(self) -> int:
        """What counts against `max_bytes`: all that is kept, set aside or not."""
        return self._bytes + self._set_aside_bytes

    @property
    def set_aside_messages(self) -> int:
        """How many messages JetStream refused for good."""
        return self._set_aside_messages

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest message that waits, 0 where none does."""
        return self._age_s(self._queues.values())

    def age_of(self, queue: Queue) -> float:
        """Age in seconds of the oldest message of a queue."""
        return self._age_s([queue])

    def _age_s(self, queues: Iterable[Queue]) -> float:
        now = self._now()
        return max(0.0, now - min((queue.oldest_at for queue in queues), default=now))

    def holds(self, event: str) -> bool:
        """Whether messages of the event wait here, so that later ones must queue behind them."""
        return event in self._queues

    def full_because(self, size: int = 0) -> str:
        """Say why there is no room for so many bytes more; empty where there is."""
        if self.bytes + size > self.settings.max_bytes:
            aside = f", {self._set_aside_bytes} of them set aside" if self._set_aside_bytes else ""
            return f"the spool holds {self.bytes} of {self.settings.max_bytes} bytes (spool.max_bytes){aside}"
        # what waits for one event's stream is no sign of a long outage, and must not stop the others
        age_s = self._age_s(queue for queue in self._queues.values() if not queue.waits_for)
        if age_s > self.settings.max_age:
            return (
                f"the oldest message in the spool has waited for {age_s:.0f} s, and {self.settings.max_age:g} s are the "
                "limit (spool.max_age)"
            )
        return ""

    def on_append(self, callback: Callable[[str], None]) -> None:
        """Say who is told the event of each message that has come onto the disk."""
        self._appended = callback

    # ---- the queues

    async def append(self, entry: Entry) -> bool:
        """Keep a message: it is on the disk when this returns.

        Returns:
            False where a message of this event and uid waits already: that one stands for both.

        Raises:
            NotKeptError: There is no room, the disk does not take it, or the daemon stops.
        """
        row = row_of(self._take_id(), entry)
        size = bytes_of(row)
        if why := self.full_because(size):
            raise FullError(why)
        self._writer.see_that_it_is_open()
        self._add(entry.event, size, entry.emitted_at)

        def settle(future: asyncio.Future[Any]) -> None:
            if future.exception() is not None or not future.result():
                self._subtract(entry.event, 1, size)
            self._appended(entry.event)

        return await self._writer.write(functools.partial(store.append, row=row), settle)

    async def read(self, event: str, after: int) -> list[Kept]:
        """Read the next messages of an event, oldest first; none where all that wait are still being written.

        Raises:
            DamageError: The file can't be read, or one is not what was written.
        """
        after = max(after, self._gone.get(event, 0))
        return await self._writer.read(
            functools.partial(store.read, event=event, after=after, messages=READ_MESSAGES, bytes_=READ_BYTES)
        )

    async def remove(self, event: str, stored: list[Kept]) -> None:
        """Remove messages of an event that JetStream has stored.

        A disk that does not take it changes nothing: they go from the disk later, or are forwarded once more after a
        restart.
        """
        ids = [kept.id for kept in stored]

        def run(connection: sqlite3.Connection) -> float | None:
            store.remove(connection, ids)
            return store.oldest_at(connection, event)

        try:
            oldest_at = await self._writer.write(run)
        except WriteError:
            self._writer.remove_later(ids)
            self._gone[event] = ids[-1]
            oldest_at = None
        else:
            oldest_at = self._now() if oldest_at is None else oldest_at  # all that is left is being written just now
        self._subtract(event, len(stored), sum(kept.bytes for kept in stored), oldest_at)

    async def set_aside(self, kept: Kept, reason: str, detail: str) -> None:
        """Take a message out of its queue and keep it, because JetStream refuses it for good.

        Raises:
            WriteError: The disk does not take it; it is where it was.
        """
        event, now = kept.entry.event, self._now()

        def run(connection: sqlite3.Connection) -> float | None:
            store.set_aside(connection, kept.id, reason, detail, now)
            return store.oldest_at(connection, event)

        oldest_at = await self._writer.write(run)
        self._subtract(event, 1, kept.bytes, oldest_at)
        self._set_aside_messages += 1
        self._set_aside_bytes += kept.bytes

    # ---- what was set aside

    async def set_aside_page(self, after: int, limit: int) -> list[SetAside]:
        """List what was set aside, by id.

        Raises:
            DamageError: The file can't be read, or one is not what was written.
        """
        return await self._writer.read(functools.partial(store.set_aside_page, after=after, limit=limit))

    async def put_back(self, id_: int) -> bool:
        """Queue what was set aside once more, at the end; False where there is no such message.

        Raises:
            WriteError: The disk does not take it; it is where it was.
        """

        def settle(future: asyncio.Future[Any]) -> None:
            if future.exception() is not None or future.result() is None:
                return
            kept, is_new = future.result()
            self._forget_set_aside(kept)
            if is_new:
                self._add(kept.entry.event, kept.bytes, kept.entry.emitted_at)
            self._appended(kept.entry.event)

        put_back = functools.partial(store.put_back, id_=id_, new_id=self._take_id())
        return await self._writer.write(put_back, settle) is not None

    async def discard(self, id_: int) -> bool:
        """Erase what was set aside; False where there is no such message.

        Raises:
            WriteError: The disk does not take it; it is where it was.
        """

        def settle(future: asyncio.Future[Any]) -> None:
            if future.exception() is None and future.result() is not None:
                self._forget_set_aside(future.result())

        return await self._writer.write(functools.partial(store.discard, id_=id_), settle) is not None

    # ---- counting

    def count(self, sums: Iterable[store.Sum], set_aside: tuple[int, int], last_id: int) -> None:
        """Take over what is in the file, before anything else happens."""
        self._queues = {sum_.event: Queue(sum_.messages, sum_.bytes, sum_.oldest_at) for sum_ in sums}
        self._bytes = sum(queue.bytes for queue in self._queues.values())
        self._set_aside_messages, self._set_aside_bytes = set_aside
        self._next_id = last_id + 1

    def _take_id(self) -> int:
        id_, self._next_id = self._next_id, self._next_id + 1
        return id_

    def _add(self, event: str, size: int, emitted_at: float) -> None:
        queue = self._queues.setdefault(event, Queue(0, 0, emitted_at))
        queue.messages += 1
        queue.bytes += size
        self._bytes += size

    def _subtract(self, event: str, messages: int, size: int, oldest_at: float | None = None) -> None:
        queue = self._queues[event]
        queue.messages -= messages
        queue.bytes -= size
        self._bytes -= size
        if oldest_at is not None:
            queue.oldest_at = oldest_at
        if not queue.messages:
            del self._queues[event]
        if not self._queues:
            self._writer.shrink_when_idle()

    def _forget_set_aside(self, kept: Kept) -> None:
        self._set_aside_messages -= 1
        self._set_aside_bytes -= kept.bytes


@contextlib.asynccontextmanager
async def open_spool(
    settings: Settings, metrics: Metrics, *, now: Callable[[], float] = time.time
) -> AsyncIterator[Spool]:
    """Open the spool. Leaving it writes what is under way, and keeps what waits.

    Raises:
        SpoolFileError: The file can't be used.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="spool") as thread:
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(thread, open_file, settings.path)
        try:
            writer = Writer(connection, thread, metrics)
            spool = Spool(settings, writer, now)
            spool.count(
                await writer.read(store.sums), await writer.read(store.set_aside_sum), await writer.read(store.last_id)
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(writer.keep_writing(), name="spool")
                try:
                    yield spool
                finally:
                    writer.end()
        finally:
            await loop.run_in_executor(thread, connection.close)
