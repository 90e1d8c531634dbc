"""A connection for blocking code: the same one, on an event loop of its own in the background."""

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from walnatsd_client._actor import Actor
from walnatsd_client._cloud_event import CloudEvent
from walnatsd_client._connection import (
    DEFAULT_REQUEST_TIMEOUT_S,
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT_S,
    Connection,
    Receipt,
    Registered,
    connect,
)
from walnatsd_client._event import Event, EventWithResponse
from walnatsd_client._tls import Tls
from walnatsd_client._token import token_or_default

T = TypeVar("T")
R = TypeVar("R")


class SyncConnection:
    """A connection to a sidecar for code that is not async, made by `connect_sync`. May be used by any number of threads.

    What they emit at the same time is gathered, as with `Connection`. In code that is async, use `connect`: this one
    would stop its event loop for as long as each call takes.
    """

    def __init__(self, open_connection: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        """Prepare a connection; nothing is opened before the first call.

        Args:
            open_connection: Opens the connection that does the work.
        """
        self._open_connection = open_connection
        self._lock = threading.Lock()
        self._background: _Background | None = None
        self._closed = False

    def register(
        self, *declarations: Event[Any] | Actor[Any], timeout: float = DEFAULT_TIMEOUT_S
    ) -> tuple[Registered, ...]:
        """Declare events and actors, as `Connection.register` does and with its errors."""
        return self._run(lambda connection: connection.register(*declarations, timeout=timeout))

    def emit(
        self,
        event: Event[T],
        message: T,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        delay: float | None = None,
        deliver_at: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        meta: CloudEvent | None = None,
        expected_last_sequence: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Receipt:
        """Store a message, as `Connection.emit` does, with its arguments and errors; returns once NATS has it."""
        return self._run(
            lambda connection: connection.emit(
                event,
                message,
                uid=uid,
                trace_id=trace_id,
                delay=delay,
                deliver_at=deliver_at,
                headers=headers,
                meta=meta,
                expected_last_sequence=expected_last_sequence,
                timeout=timeout,
            )
        )

    def request(
        self,
        event: EventWithResponse[T, R],
        message: T,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        meta: CloudEvent | None = None,
        expected_last_sequence: int | None = None,
        timeout: float = DEFAULT_REQUEST_TIMEOUT_S,
    ) -> R:
        """Store a message and wait for the answer, as `Connection.request` does, with its arguments and errors."""
        return self._run(
            lambda connection: connection.request(
                event,
                message,
                uid=uid,
                trace_id=trace_id,
                headers=headers,
                meta=meta,
                expected_last_sequence=expected_last_sequence,
                timeout=timeout,
            )
        )

    def close(self) -> None:
        """Close the connection. Calls under way in other threads raise `UnavailableError`. Done at exit by itself."""
        with self._lock:
            self._closed = True
            background, self._background = self._background, None
        if background is not None and background.process == os.getpid():
            background.stop()
            atexit.unregister(self.close)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _run(self, work: Callable[[Connection], Awaitable[R]]) -> R:
        with self._lock:
            if self._closed:
                raise RuntimeError("the connection is closed")
            if self._background is None:
                self._background = _Background(self._open_connection)
                atexit.register(self.close)
            background = self._background
            if background.process != os.getpid():
                raise RuntimeError("the connection was used before this process was forked; make one in each process")
            future = background.begin(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt ends the call, too; on one that has ended this does nothing
            raise


class _Background:
    """A connection on an event loop in a thread."""

    def __init__(self, open_connection: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self.process = os.getpid()
        self._open_connection = open_connection
        self._opened: Future[tuple[Connection, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        # a daemon: an application that ends without closing ends all the same
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="walnatsd-client", daemon=True)
        self._thread.start()
        try:
            self._connection, self._loop, self._to_stop = self._opened.result()
        except BaseException:
            if self._opened.done():
                self._thread.join()
            raise

    def begin(self, work: Callable[[Connection], Awaitable[R]]) -> "Future[R]":
        async def run() -> R:
            return await work(self._connection)

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._to_stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        to_stop = asyncio.Event()
        try:
            async with self._open_connection() as connection:
                self._opened.set_result((connection, asyncio.get_running_loop(), to_stop))
                await to_stop.wait()
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)  # it is raised where the connection was wanted
        ours = asyncio.current_task()
        if calls := [task for task in asyncio.all_tasks() if task is not ours]:
            await asyncio.wait(calls)  # they have lost their connection, and tell so


def connect_sync(target: str = DEFAULT_TARGET, *, token: str | None = None, tls: Tls | None = None) -> SyncConnection:
    """Give a connection to a sidecar for blocking code.

    ```python
    with walnatsd.connect_sync() as conn:
        conn.emit(COUNT, 1)
    ```

    Nothing is opened before the first call, so an application that forks may make it before. Where no `with` fits, as
    with a connection for the whole application, it is closed at exit.

    Args:
        target: Host and port, or a socket as `unix:/run/walnatsd/grpc.sock`.
        token: As of `connect`.
        tls: As of `connect`; the files are read at the first call.

    Raises:
        ValueError: As of `connect`; about the files of `tls`, at the first call.
    """
    token = token_or_default(token) or ""
    return SyncConnection(lambda: connect(target, token=token, tls=tls))
