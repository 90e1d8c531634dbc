"""Child processes: started, listened to, ended; none is left behind."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

STOP_TIMEOUT_S = 10.0


class DemoError(Exception):
    """The demo can't go on; the message says why."""


class Child:
    """A running child process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self.name = name
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=10)
        self._reader = asyncio.create_task(self._read(on_line))

    def check(self) -> None:
        """See that it runs, or has ended well.

        Raises:
            DemoError: It has not; with its last words.
        """
        if self._reader.done() and (code := self._process.returncode):
            raise DemoError("\n".join([f"{self.name} ended with {code}:", *self._last_lines]))

    def kill(self) -> None:
        """Kill it without a warning."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """Ask it to stop, and kill it if it takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._ended()
        except TimeoutError:
            self.kill()
            await self._ended()

    async def _ended(self) -> None:
        await self._process.wait()
        await asyncio.wait([self._reader])

    async def _read(self, on_line: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._last_lines.append(line)
            on_line(line)
        await self._process.wait()


@contextlib.asynccontextmanager
async def running(
    name: str, *command: str, on_line: Callable[[str], None], pass_fds: Iterable[int] = ()
) -> AsyncIterator[Child]:
    """Run a child while the body runs; `on_line` gets what it writes, errors included."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("WALNATSD_")},
        pass_fds=tuple(pass_fds),
        start_new_session=True,  # a Ctrl-C is for the demo, which ends its children in order
    )
    child = Child(name, process, on_line)
    try:
        yield child
    finally:
        stopping = asyncio.create_task(child.stop())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:  # interrupted while it stops
            await stopping
            raise


async def until(condition: Callable[[], object], *children: Child, timeout_s: float = 30.0) -> None:
    """Wait for a condition while the children run.

    Raises:
        DemoError: A child has failed, or it takes too long.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                for child in children:
                    child.check()
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise DemoError(
            f"waited {timeout_s:g} s in vain for {' and '.join(child.name for child in children)}"
        ) from None
