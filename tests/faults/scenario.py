"""A scenario, in its short form for `make test` and its long one for `make faults`: one code, other numbers, fewer faults here and there."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from faults.stage import Form, Stage
from faults.verdict import Verdict


@dataclass(frozen=True)
class Scenario:
    """One way in which things go wrong."""

    name: str
    number: int
    """Of the list in docs/reliability.md."""
    run: Callable[[Stage], Awaitable[None]]
    """Sets the stage, breaks things while the load runs, waits until all is settled. What it has to complain of, it
    tells the stage; the ledger's findings need no word."""
    short: Form
    long: Form

    @property
    def title(self) -> str:
        """The first line of the docstring of `run`."""
        return (self.run.__doc__ or "").splitlines()[0].rstrip(".")

    async def play(self, form: Form, *, seed: int, folder: Path) -> Verdict:
        """Run it, and judge."""
        started = time.monotonic()
        async with contextlib.AsyncExitStack() as resources:
            # the path of a Unix socket must be short
            sockets = resources.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
            stage = Stage(folder, Path(sockets), form, seed, resources)
            resources.callback(asyncio.create_task(stage.punctuality.watch()).cancel)
            await stage.receivers.up()
            resources.push_async_callback(stage.receivers.down)
            await self.run(stage)
            await stage.end_sidecars()
        return stage.verdict(time.monotonic() - started)
