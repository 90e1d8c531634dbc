"""Requests of every kind to both HTTP addresses, made from their own descriptions: only described answers, and the daemon stays up.

Schemathesis makes them: https://schemathesis.readthedocs.io. What it looks for is set in schemathesis.toml.
"""

import asyncio
import contextlib
import os
import random
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from support import fuzz
from support.daemon import Process, config_text, process
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.waiting import until

PACKAGES = Path(sys.prefix, "schemathesis")
"""Where `make` puts it: requirements/schemathesis.txt."""
HASTY = "import walnatsd.emit.calls, walnatsd.api.events as events; events.DEFAULT_TIMEOUT_S = 0.2"


@contextlib.asynccontextmanager
async def serving(nats: NatsServer, receiver: Receiver, folder: Path) -> AsyncIterator[Process]:
    """A daemon with an event of every kind, an answering actor, and dead letters."""

    async def answer(received: Received) -> web.Response:
        return web.Response(status=200 if received.headers["walnats-actor"] == "count" else 422, text="1")

    receiver.answer = answer
    (folder / "text.json").write_text('{"type": "string"}')
    events = [
        {"name": "counts"},
        {"name": "words"},
        {"name": "wanted", "min_actors": 1},
        {"name": "small", "limits": {"message_size": "1KiB"}},
        {"name": "full", "limits": {"messages": 1, "when_full": "refuse"}},
        {"name": "typed", "schema": {"json_schema": str(folder / "text.json")}},
    ]
    actors = [
        {"name": "count", "event": "words", "url": receiver.url, "responds": True},
        {"name": "print", "event": "counts", "url": receiver.url},
        {"name": "print", "event": "full"},  # nobody listens
    ]
    text = config_text(nats.url, events=events, actors=actors)
    async with process(folder / "daemon", text, prelude=HASTY) as daemon:
        assert daemon.sidecar is not None
        for payload in ("1", b"\xff", "3"):
            await daemon.sidecar.emit("counts", payload)
        buried = 'walnatsd_dead_letters_total{actor="print",cause="rejected",event="counts"}'

        async def all_buried() -> bool:
            assert daemon.sidecar is not None
            return (await daemon.sidecar.metrics()).get(buried, 0) >= 3

        await until(all_buried)
        yield daemon


async def schemathesis(address: str, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run it against the description that an address gives of itself; give its exit code and what it says."""
    command = ("--config-file", str(Path(__file__).with_name("schemathesis.toml")), "--no-color", "run", *arguments)
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", *command, f"http://{address}/openapi.json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=folder, env=os.environ | {"PYTHONPATH": str(PACKAGES)},
    )  # fmt: skip
    try:
        said, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode is not None
    return running.returncode, said.decode(errors="replace")


async def test_whatever_is_asked_over_http_the_answer_is_one_of_the_description(nats, receiver, tmp_path) -> None:
    seed = random.SystemRandom().randrange(1 << 32) if fuzz.LONG else 1
    phases, examples = ("coverage,fuzzing,stateful", 60) if fuzz.LONG else ("coverage,fuzzing", 4)
    async with serving(nats, receiver, tmp_path) as daemon:
        for address in ("http", "admin"):
            code, said = await schemathesis(
                getattr(daemon.sidecar, address), tmp_path,
                "--seed", str(seed), "--phases", phases, "--max-examples", str(examples),
            )  # fmt: skip
            assert code == 0, said[-20_000:]
            [made] = re.findall(r"(\d+) generated, \1 passed", said)
            assert int(made) > 300, said[-20_000:]
            await fuzz.see_that_it_is_well(daemon, "words")
    fuzz.see_no_surprise(daemon)
