"""The one thread that has the file: many writes to a transaction, each on the disk before it is answered."""

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from walnatsd.observe.metrics import Metrics
from walnatsd.spool import store
from walnatsd.spool.errors import ClosedError, DamageError, WriteError

MAX_JOBS = 1000
"""So many writes at most go into one transaction: the first one waits for the last."""
REPEAT_S = 1.0

T = TypeVar("T")

_log = structlog.get_logger("walnatsd.spool")


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


class Writer:
    """Writes in the order of the calls. What comes while one transaction is written makes up the next one."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, metrics: Metrics) -> None:
        self._connection = connection
        self._thread = thread
        self._metrics = metrics
        self._jobs: list[_Job] = []
        self._wake = asyncio.Event()
        self._ending = False
        self._failing = False
        self._leftover: set[int] = set()
        self._can_shrink = True

    async def write(
        self,
        run: Callable[[sqlite3.Connection], T],
        settle: Callable[[asyncio.Future[Any]], object] = asyncio.Future.exception,
    ) -> T:
        """Have something written with the next transaction; it is on the disk when this returns.

        It is written even where the caller goes away meanwhile; `settle` gets the outcome in any case, and first.

        Raises:
            WriteError: The disk does not take it.
            ClosedError: The daemon stops.
        """
        self.see_that_it_is_open()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.add_done_callback(settle)
        self._jobs.append(_Job(run, future))
        self._wake.set()
        result: T = await asyncio.shield(future)
        return result

    async def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Read something, after what is being written.

        Raises:
            DamageError: It can't be read, or is not what was written.
            ClosedError: The daemon stops.
        """
        self.see_that_it_is_open()
        try:
            return await self._in_thread(run, self._connection)
        except sqlite3.Error as error:
            raise DamageError(str(error)) from None

    def remove_later(self, ids: Iterable[int]) -> None:
        """Remove messages when the disk takes it: no later than with the next thing that is written."""
        self._leftover.update(ids)
        self._wake.set()

    def shrink_when_idle(self) -> None:
        """Give free space back to the disk, when there is nothing else to do."""
        self._can_shrink = True
        self._wake.set()

    def see_that_it_is_open(self) -> None:
        """Raise ClosedError once the daemon stops."""
        if self._ending:
            raise ClosedError("the daemon stops")

    async def keep_writing(self) -> None:
        """Write what comes, until `end`."""
        while self._jobs or not self._ending:
            if self._jobs:
                batch, self._jobs = self._jobs[:MAX_JOBS], self._jobs[MAX_JOBS:]
                await self._commit(batch)
            elif self._can_shrink:
                self._can_shrink = False
                if await self._shrink():
                    self._can_shrink = True
            else:
                await self._wait_for_jobs(REPEAT_S if self._leftover else None)
                await self._clear_leftover()
        await self._clear_leftover()

    def end(self) -> None:
        """Take nothing more, and let `keep_writing` finish."""
        self._ending = True
        self._wake.set()

    async def _wait_for_jobs(self, timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        self._wake.clear()

    async def _commit(self, batch: list[_Job]) -> None:
        leftover = frozenset(self._leftover)
        clear = functools.partial(store.remove, ids=leftover)
        try:
            _, *results = await self._in_thread(_transact, self._connection, [clear, *(job.run for job in batch)])
        except (sqlite3.Error, DamageError) as error:
            self._tell_failure(error)
            for job in batch:
                job.future.set_exception(WriteError(f"the disk of the spool does not take it ({error})"))
        else:
            self._leftover -= leftover
            self._tell_success()
            for job, result in zip(batch, results, strict=True):
                job.future.set_result(result)

    async def _clear_leftover(self) -> None:
        """Remove what could not be removed before."""
        if not self._leftover:
            return
        ids = list(self._leftover)
        try:
            await self._in_thread(_transact, self._connection, [functools.partial(store.remove, ids=ids)])
        except sqlite3.Error as error:
            self._tell_failure(error)
        else:
            self._tell_success()
            self._leftover.difference_update(ids)

    async def _shrink(self) -> bool:
        try:
            return await self._in_thread(store.shrink, self._connection)
        except sqlite3.Error as error:
            self._tell_failure(error)
            return False

    def _tell_success(self) -> None:
        if self._failing:
            self._failing = False
            _log.info("the spool can be written again")

    def _tell_failure(self, error: Exception) -> None:
        self._metrics.spool_write_failures.inc()
        if not self._failing:
            self._failing = True
            _log.error("the spool can't be written; emits are refused while NATS is away", why=str(error))

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _transact(connection: sqlite3.Connection, runs: Iterable[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
    """Do things in one transaction, which is on the disk when this returns: all of them, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [run(connection) for run in runs]
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")  # SQLite has done so already after some errors
        raise
    return results
