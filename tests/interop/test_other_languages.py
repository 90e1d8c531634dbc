"""Any language will do: programs without a library of ours emit over HTTP and act on webhooks."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.daemon import config_text, running
from support.foreign import build_go, program

PROGRAMS = Path(__file__).parent / "other_languages"


class Program:
    """A program that emits and acts; what it tells is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.deliveries: list[tuple[str, dict[str, str]]] = []

    async def port(self) -> int:
        return int((await self._line())["port"])

    async def emit(self, sidecar: str) -> None:
        """Have it emit, and read on until it has told of four answers and three attempts."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{sidecar}\n".encode())
        while len(self.answers) < 4 or len(self.deliveries) < 3:
            line = await self._line()
            if "status" in line:
                self.answers.append((line["status"], line["answer"]))
            else:
                self.deliveries.append((line["received"], line["headers"]))

    async def end(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await self._process.wait()

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        assert line, f"the program ended with {await self._process.wait()}"
        told: dict[str, Any] = json.loads(line)
        return told


@pytest.mark.needs_program("node")
async def test_node_emits_and_acts_without_a_library(nats) -> None:
    async with program("node", str(PROGRAMS / "emit_and_act.mjs")) as node:
        await emits_and_acts(Program(node), nats)


@pytest.mark.needs_program("go")
async def test_go_emits_and_acts_without_a_library(nats, tmp_path) -> None:
    async with program(await build_go(PROGRAMS / "emit_and_act.go", tmp_path)) as go:
        await emits_and_acts(Program(go), nats)


async def emits_and_acts(language: Program, nats) -> None:
    actor = {
        "name": "answer", "event": "greetings", "url": f"http://127.0.0.1:{await language.port()}/answer",
        "retry": {"delays": [0.05], "jitter": 0},
    }  # fmt: skip
    async with running(config_text(nats.url, events=[{"name": "greetings"}], actors=[actor])) as sidecar:
        await language.emit(sidecar.http)
        assert await language.end() == 0
    [first, second, again, unknown] = language.answers
    assert first == (201, stored("one", 1))
    assert second == (201, stored("two", 2))
    assert again == (200, stored("one", 1) | {"duplicate": True})
    assert unknown[0] == 404
    assert unknown[1]["reason"] == "UNKNOWN_EVENT"
    assert sorted((headers["walnats-uid"], headers["walnats-attempt"]) for _, headers in language.deliveries) == [
        ("one", "1"), ("two", "1"), ("two", "2"),
    ]  # fmt: skip
    for body, headers in language.deliveries:
        uid = headers["walnats-uid"]
        assert json.loads(body) == {"text": {"one": "grüß dich", "two": "again"}[uid]}
        assert headers["content-type"] == "application/json"
        assert int(headers["content-length"]) == len(body.encode())
        assert (headers["ce-id"], headers["ce-subject"], headers["ce-type"]) == (uid, uid, "greetings")
        assert headers["walnats-trace"] == f"t-{uid}"
        assert headers["x-language"] == "any"
    ids = {(headers["walnats-uid"], headers["webhook-id"]) for _, headers in language.deliveries}
    assert len(ids) == 2  # the same on every attempt


def stored(uid: str, sequence: int) -> dict[str, Any]:
    return {
        "uid": uid, "stream": "greetings", "sequence": sequence,
        "duplicate": False, "scheduled": False, "spooled": False,
    }  # fmt: skip
