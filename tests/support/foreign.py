"""Programs of other languages."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

_GO = {
    "GOTOOLCHAIN": "local",  # what is installed, never a download
    "GOFLAGS": "-mod=mod -buildvcs=false",
    "CGO_ENABLED": "0",
}
_QUICKLY = ("-gcflags=all=-N -l", "-ldflags=-w")
"""Without optimisation: where nothing is in Go's cache yet, the standard library is compiled too."""


async def build_go(source: Path, folder: Path) -> str:
    """Build a Go program; as a binary of its own, for `go run` would start it as a child that outlives a kill."""
    built = str(folder / source.stem)
    compiler = await asyncio.create_subprocess_exec(
        "go", "build", *_QUICKLY, "-o", built, str(source), env=os.environ | _GO
    )
    assert await compiler.wait() == 0
    return built


@contextlib.asynccontextmanager
async def program(
    *command: str, environ: dict[str, str] | None = None, piped: bool = True
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program, killed at the end if it still runs; `piped`: its input and output are ours."""
    pipe = asyncio.subprocess.PIPE if piped else None
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=os.environ | (environ or {}))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
