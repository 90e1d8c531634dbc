"""What a case is measured on: a nats-server with file storage, daemons, load generators, each a process of its own."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nats.js import JetStreamContext

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.daemon import Process, config_text, process
from support.nats_server import NatsServer, nats_server

ROOT = Path(__file__).parents[1]
EVENT, ACTOR = "bench", "print"
PAYLOAD = b'"' + b"x" * 254 + b'"'
SERVER = {"jetstream": {"store_dir": "data", "max_mem": 1 << 30, "max_file": 8 << 30}}


class Stage:
    """One nats-server and a view of it; cases put their own daemons and loads beside it."""

    def __init__(self, folder: Path, nats: NatsServer, jetstream: JetStreamContext) -> None:
        self.folder = folder
        self.nats = nats
        self.jetstream = jetstream
        self._daemons = 0

    async def begin_anew(self, *consumers: str, event: str = EVENT) -> None:
        """Leave one empty stream with these consumers."""
        for info in await self.jetstream.streams_info():
            if not (info.config.name or "").startswith("walnatsd"):
                await self.jetstream.delete_stream(str(info.config.name))
        await self.jetstream.add_stream(name=event, subjects=[event], retention="interest")
        for consumer in consumers:
            await self.jetstream.add_consumer(
                event, durable_name=consumer, ack_policy="explicit", max_ack_pending=1000, ack_wait=16
            )

    async def fill(self, count: int, event: str = EVENT) -> None:
        """Store messages, quickly: only some are waited for, and then all before are stored."""
        for number in range(count):
            if number % 500 == 499 or number == count - 1:
                await self.jetstream.publish(event, PAYLOAD, timeout=30)
            else:
                await self.jetstream._nc.publish(event, PAYLOAD)

    @contextlib.asynccontextmanager
    async def daemon(self, **parts: Any) -> AsyncIterator[Process]:
        """A daemon with these parts of a config."""
        self._daemons += 1
        text = config_text(self.nats.url, **parts)
        async with process(self.folder / f"daemon-{self._daemons}", text) as started:
            yield started
            await started.end()

    async def load(self, module: str, *arguments: object) -> dict[str, float]:
        """Run a load generator to its end; gives what it measured."""
        child = await self._spawn(module, *arguments)
        try:
            out, _ = await child.communicate()
        finally:
            await _end(child)
        assert child.returncode == 0, f"{module} {arguments} ended with {child.returncode}"
        return dict(json.loads(out.splitlines()[-1]))

    @contextlib.asynccontextmanager
    async def server(self, module: str) -> AsyncIterator[str]:
        """Run a server that prints its address first."""
        child = await self._spawn(module)
        try:
            assert child.stdout is not None
            yield (await child.stdout.readline()).decode().strip()
        finally:
            await _end(child)

    async def _spawn(self, module: str, *arguments: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *map(str, arguments), stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )  # fmt: skip


async def _end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()


@contextlib.asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Set the stage, in a folder on a disk."""
    options = {"jetstream": SERVER["jetstream"] | {"store_dir": str(folder / "nats" / "data")}}
    async with nats_server(folder / "nats", options=options) as nats, nats.jetstream() as jetstream:
        yield Stage(folder, nats, jetstream)
