"""Shell commands of the pages, run as in a terminal."""

import asyncio
import contextlib
import json
import os
import signal
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path


def replaced(text: str, **pairs: object) -> str:
    """The text with other addresses; each must be there."""
    for old, new in pairs.items():
        assert old in text, f"there is no {old!r} in {text!r}"
        text = text.replace(old, str(new))
    return text


class Terminal:
    """A shell command that runs as in a terminal, and what it has written."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextlib.asynccontextmanager
    async def running(self, folder: Path, *command: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
        path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"  # as `. .venv/bin/activate` does
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=os.environ | {"PATH": path} | environ, start_new_session=True,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        reader = asyncio.create_task(self._read(process))
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
            await reader

    async def run(self, folder: Path, *command: str, **environ: str) -> str:
        """Run it to its end, which must be a good one; what it wrote."""
        async with self.running(folder, *command, **environ) as process:
            assert await process.wait() == 0, self.lines
        return "\n".join(self.lines)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line.decode().rstrip())

    def said(self, message: str) -> dict[str, str] | None:
        """The line of walnatsd's log with this message."""
        parsed = [json.loads(line) for line in self.lines if line.startswith("{")]
        return next((line for line in parsed if line["message"] == message), None)
