"""Commands and shells on a terminal of the test's own."""

import asyncio
import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.waiting import until

_MOVES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()=>][0-9A-Za-z]?|\][^\x07\x1b]*(\x07|\x1b\\))")


@dataclass
class Shown:
    """What a command did."""

    exit_code: int
    out: str
    """What standard output got, where it was no terminal."""
    terminal: str
    """What the terminal showed, with carriage returns and without what moves the cursor or colours."""


async def on_terminal(*arguments: str, out: bool = True, stdin: bytes = b"", **environ: str) -> Shown:
    """Run a command of walnatsd to its end, with standard error on a terminal, and standard output too unless `out` is False."""
    async with _terminal() as (screen, its):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "walnatsd", *arguments, stdin=subprocess.PIPE,
            stdout=its if out else subprocess.PIPE, stderr=its, env=os.environ | {"TERM": "xterm"} | environ,
        )  # fmt: skip
        os.close(its)
        told, _ = await process.communicate(stdin)
        assert process.returncode is not None
        await screen.ended.wait()
    return Shown(process.returncode, (told or b"").decode(), screen.text)


class Screen:
    """What a terminal shows."""

    def __init__(self, end: int) -> None:
        self._end = end
        self.text = ""
        self.ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(end, self._read)

    def _read(self) -> None:
        try:
            read = os.read(self._end, 65536)
        except OSError:  # nobody has the other end any more
            read = b""
        if not read:
            asyncio.get_running_loop().remove_reader(self._end)
            self.ended.set()
        self.text += _MOVES.sub("", read.decode(errors="replace"))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._end, keys.encode())

    async def shows(self, text: str) -> None:
        """Wait until it shows this."""
        await until(lambda: text in self.text, what=f"{text!r} on the terminal, which shows {self.text!r}")


@contextlib.asynccontextmanager
async def _terminal() -> AsyncIterator[tuple[Screen, int]]:
    ours, its = pty.openpty()
    try:
        yield Screen(ours), its
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


@contextlib.asynccontextmanager
async def shell(command: Sequence[str], home: Path, **environ: str) -> AsyncIterator[Screen]:
    """A shell on a terminal, with this project's commands on its PATH and a home of its own."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8"}
    async with _terminal() as (screen, its):
        process = await asyncio.create_subprocess_exec(
            *command, stdin=its, stdout=its, stderr=its, env=own | environ, start_new_session=True, cwd=home
        )
        os.close(its)
        try:
            yield screen
        finally:
            process.kill()
            await process.wait()
