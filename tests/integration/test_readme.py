"""What the README shows works as it stands there; only addresses are replaced, for the usual ones may be in use."""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.nats_server import free_port
from support.waiting import until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
ANYWHERE = {f"WALNATSD_{server}__LISTEN": "127.0.0.1:0" for server in ("GRPC", "HTTP", "ADMIN")}
SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()


def block(kind: str, start: str) -> str:
    """The one code block of this kind that begins so."""
    found = [text for each, text in BLOCKS if each == kind and text.startswith(start)]
    assert len(found) == 1, f"{len(found)} blocks of {kind} begin with {start!r}"
    return found[0]


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


@pytest.mark.needs_program("curl")
async def test_the_example_by_hand_and_all_ways_to_emit_work_as_they_stand_there(tmp_path) -> None:
    run, receiver = Terminal(), Terminal()
    webhook, nats = free_port(), free_port()
    first = replaced(block("sh", "cat > walnatsd.yaml"), **{"8000": webhook, "true": f"{{port: {nats}}}"})
    second = replaced(block("sh", "cat > receiver.py"), **{"8000": webhook})
    async with (
        run.running(tmp_path, "bash", "-c", first, **ANYWHERE),
        receiver.running(tmp_path, "bash", "-c", second),
    ):
        await until(lambda: run.said("ready"), what=f"readiness; {run.lines}")
        at = run.said("listening")
        assert at is not None

        third = replaced(block("sh", "curl"), **{"127.0.0.1:7521": at["http"]})
        assert '"sequence":1' in await Terminal().run(tmp_path, "bash", "-c", third.replace("curl ", "curl -s "))
        await until(lambda: 'parcel-sent {"parcel_id": 7}' in receiver.lines, what=f"the message; {receiver.lines}")

        by_cli, by_curl, by_grpcurl = block("sh", "walnatsd emit").split("\n\n")
        said = await Terminal().run(tmp_path, "bash", "-c", f"{by_cli} --http {at['http']}")
        assert "stored as parcel-sent/2  uid parcel-7" in said
        by_curl = replaced(by_curl, **{"127.0.0.1:7521": at["http"], "curl ": "curl -s "})
        assert '"sequence":2,"duplicate":true' in await Terminal().run(tmp_path, "bash", "-c", by_curl)
        if shutil.which("grpcurl"):
            by_grpcurl = replaced(by_grpcurl, **{"127.0.0.1:7520": at["grpc"]})
            assert '"duplicate": true' in await Terminal().run(tmp_path, "bash", "-c", by_grpcurl)
        by_client = replaced(block("python", "import"), **{"connect()": f"connect({at['grpc']!r})"})
        assert "sequence=2, duplicate=True" in await Terminal().run(tmp_path, sys.executable, "-c", by_client)
        await until(lambda: sum(line.startswith("parcel-sent") for line in receiver.lines) == 2)


async def test_the_config_by_example_passes_the_check(tmp_path) -> None:
    (tmp_path / "walnatsd.yaml").write_text(block("yaml", "service:"))
    [command] = re.findall(r"`(walnatsd check [^`]*)`", README)
    await Terminal().run(tmp_path, "bash", "-c", command, WEBHOOK_SECRET=SECRET)


def test_the_commands_for_make_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", block("sh", "make demo"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
