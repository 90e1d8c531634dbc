"""walnatsd itself: in this process for speed, or as a process of its own to be killed."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from walnatsd import daemon
from walnatsd.config.load import load_text

ANYWHERE = {"grpc": {"listen": "127.0.0.1:0"}, "http": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}}


def config_text(nats_url: str, **parts: Any) -> str:
    """A config on free ports; small, quick where the defaults are patient."""
    config: dict[str, Any] = {
        "service": {"name": "tests"},
        "nats": {"servers": [nats_url]},
        "dead_letters": {"bytes": "16MiB"},
        "shutdown_timeout": 10,
        **ANYWHERE,
    }
    for key, value in parts.items():
        config[key] = config[key] | value if isinstance(config.get(key), dict) else value
    return yaml.safe_dump(config)


class Sidecar:
    """A daemon, seen from its addresses."""

    def __init__(self, grpc: str, http: str, admin: str, monitoring: str = "") -> None:
        self.grpc = grpc
        self.http = http
        self.admin = admin
        self.monitoring = monitoring
        self.session = aiohttp.ClientSession()

    async def emit(self, event: str, payload: bytes | str, **options: Any) -> dict[str, Any]:
        """Emit over HTTP; the answer must be a success."""
        status, answer = await self.try_emit(event, payload, **options)
        assert status in (200, 201), (status, answer)
        return answer

    async def try_emit(
        self, event: str, payload: bytes | str, *, headers: dict[str, str] | None = None, **query: str | int
    ) -> tuple[int, dict[str, Any]]:
        """Emit over HTTP; give status and answer."""
        body = payload.encode() if isinstance(payload, str) else payload
        header = {"Content-Type": "application/json"} | (headers or {})
        url = f"http://{self.http}/v1/events/{event}"
        async with self.session.post(url, data=body, headers=header, params=query) as response:
            return response.status, await response.json(content_type=None)

    async def readiness(self) -> tuple[int, dict[str, str]]:
        """What /readyz says."""
        async with self.session.get(f"http://{self.admin}/readyz") as response:
            return response.status, (await response.json())["problems"]

    async def is_ready(self) -> bool:
        return (await self.readiness())[0] == 200

    async def metrics(self) -> dict[str, float]:
        """All samples of /metrics, by name and labels as written there."""
        async with self.session.get(f"http://{self.admin}/metrics") as response:
            lines = (await response.text()).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


@contextlib.asynccontextmanager
async def running(
    text: str, *, file: str | None = None, ready: bool = True, environ: dict[str, str] | None = None
) -> AsyncIterator[Sidecar]:
    """A daemon in this process; given when it is ready."""
    async with daemon.running(load_text(text, file=file, environ=environ or {})) as started:
        at = started.addresses
        sidecar = Sidecar(at.grpc, at.http, at.admin, at.monitoring)
        try:
            if ready:
                async with asyncio.timeout(15):
                    await started.health.wait_ready()
            yield sidecar
        finally:
            await sidecar.session.close()


class Process:
    """A daemon in a process of its own."""

    def __init__(self, folder: Path, text: str, *arguments: str, prelude: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "walnatsd.yaml"
        self.file.write_text(text)
        self.arguments = arguments
        self.prelude = prelude
        self.lines: list[dict[str, Any]] = []
        self.sidecar: Sidecar | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def start(self, *, ready: bool = True) -> Sidecar:
        self._listening.clear()
        code = f"{self.prelude}\nfrom walnatsd.cli import main\nmain()"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, "run", "-c", str(self.file), *self.arguments,
            stderr=asyncio.subprocess.PIPE, cwd=self.folder, env=os.environ | {"PYTHONWARNINGS": "default"},
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read())
        async with asyncio.timeout(60):
            await self._listening.wait()
        if self.sidecar is None:
            raise AssertionError(f"the daemon ended with {await self._process.wait()}: {self.lines}")
        if ready:
            from support.waiting import until

            await until(self.sidecar.is_ready, timeout_s=60)
        return self.sidecar

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; give the exit code."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        assert self._process is not None
        assert self._reader is not None
        async with asyncio.timeout(60):
            code = await self._process.wait()
        await self._reader
        if self.sidecar is not None:
            await self.sidecar.session.close()
            self.sidecar = None
        return code

    def said(self, text: str) -> bool:
        """Whether a line of the log holds the text."""
        return any(text in json.dumps(line) for line in self.lines)

    def take(self, line: dict[str, Any]) -> None:
        """Take in a line of the log."""
        self.lines.append(line)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            try:
                line = json.loads(raw)
            except json.JSONDecodeError:
                line = {"message": raw.decode(errors="replace")}
            self.take(line)
            if line.get("message") == "listening":
                self.sidecar = Sidecar(line["grpc"], line["http"], line["admin"], line.get("monitoring", ""))
                self._listening.set()
        self._listening.set()


@contextlib.asynccontextmanager
async def process(
    folder: Path, text: str, *arguments: str, ready: bool = True, prelude: str = ""
) -> AsyncIterator[Process]:
    """A daemon in a process of its own, killed at the end if it still runs.

    `prelude` is Python that runs in it first, to make it less patient.
    """
    started = Process(folder, text, *arguments, prelude=prelude)
    try:
        await started.start(ready=ready)
        yield started
    finally:
        if started.is_running:
            await started.end(signal.SIGKILL)
        if started.sidecar is not None:
            await started.sidecar.session.close()
