"""A real nats-server on a port of its own."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nats.js import JetStreamContext

from walnatsd.broker.client import Client
from walnatsd.broker.embedded import find_binary

OLDER_VERSIONS = [
    line
    for line in (Path(__file__).parents[2] / "requirements/nats-servers.txt").read_text().split("\n")
    if line and not line.startswith("#")
]
"""What the tests run against besides the newest version, oldest first."""


def binary_of(version: str) -> str:
    """The nats-server of an older version, where `make` has put it."""
    return str(Path(sys.prefix, "nats-servers", version, "bin", "nats-server"))


def free_port() -> int:
    """A port that was free a moment ago; for what can't bind port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """Starts, stops, kills and starts again, always on the same port and data."""

    def __init__(
        self, folder: Path, *, binary: str | None = None, options: dict[str, Any] | None = None, port: int = 0
    ) -> None:
        self.folder = folder
        self.port = port
        self._binary = binary or find_binary()
        self._options = options or {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        ports = self.folder / "ports"
        ports.mkdir(parents=True, exist_ok=True)
        for old in ports.glob("*.ports"):
            old.unlink()
        path = self._write_config()
        log = (self.folder / "nats.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(self._binary, "-c", str(path), stdout=log, stderr=log)
        log.close()
        for _ in range(1000):
            for found in ports.glob("*.ports"):
                with contextlib.suppress(json.JSONDecodeError, KeyError, IndexError):
                    self.port = int(json.loads(found.read_text())["nats"][0].rsplit(":", 1)[1])
                    return
            if self._process.returncode is not None:
                break
            await asyncio.sleep(0.01)
        raise AssertionError((self.folder / "nats.log").read_text())

    def _write_config(self) -> Path:
        config = {
            "listen": f"127.0.0.1:{self.port or -1}",
            "jetstream": {"store_dir": str(self.folder / "data"), "max_mem": 64 << 20, "max_file": 1 << 30},
            "ports_file_dir": str(self.folder / "ports"),
        } | self._options
        path = self.folder / "nats.conf"
        path.write_text(json.dumps(config))
        return path

    def reload(self, options: dict[str, Any]) -> None:
        """Have the running server read other options."""
        self._options = options
        self._write_config()
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Hold the server still while the body runs, as a hung machine would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # its threads stop one by one, and the last ones may still answer
        await asyncio.to_thread(os.waitpid, self._process.pid, os.WUNTRACED)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        await self._process.wait()
        self._process = None

    @contextlib.asynccontextmanager
    async def jetstream(self, **options: Any) -> AsyncIterator[JetStreamContext]:
        """The library's view, to look at what walnatsd does and to do things behind its back.

        With our client's remedies: after the plain client's `flush`, a subscription may still be on its way.
        """
        connection = Client()
        await connection.connect(self.url, **options)
        try:
            yield connection.jetstream()
        finally:
            await connection.close()


@contextlib.asynccontextmanager
async def nats_server(folder: Path, **options: Any) -> AsyncIterator[NatsServer]:
    server = NatsServer(folder, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
