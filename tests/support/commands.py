"""The command line in a process of its own, as a user runs it."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """What a command said."""

    exit_code: int
    out: bytes
    err: str


async def walnatsd(*arguments: str, stdin: bytes = b"", **environ: str) -> Done:
    """Run a command to its end, with more in its environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", *arguments,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environ,
    )  # fmt: skip
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Done(process.returncode, out, err.decode())
