"""The log: one wide line for each attempt with the fields that the page lists, at the level that it says, without payloads."""

import asyncio
import json
import os
import pty
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from support.actors import one_actor
from support.daemon import Process, config_text, process
from support.listener import listener
from support.receiver import answers
from support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "logs.md"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OF_ALL = {"message", "level", "timestamp"}


def documented() -> set[str]:
    table = PAGE.read_text().partition("<!-- tested against what the daemon writes -->")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def attempts(daemon: Process) -> list[dict[str, Any]]:
    return [line for line in daemon.lines if line["message"] == "attempt"]


async def test_each_attempt_is_one_line_with_the_fields_of_the_page_and_no_payload(nats, receiver, tmp_path) -> None:
    receiver.answer = answers(500, then=204)
    text = one_actor(nats, receiver) + "\nlog: {level: debug}"
    async with process(tmp_path / "daemon", text) as daemon:
        assert daemon.sidecar is not None
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        await daemon.sidecar.emit("counts", '"a secret payload"', uid="one", trace_id="order-1", headers=headers)
        await until(lambda: len(attempts(daemon)) == 2)
        assert await daemon.end() == 0
    failed, acknowledged = attempts(daemon)
    assert documented()
    assert failed.keys() == acknowledged.keys() == documented() | OF_ALL
    of_both = {
        "event": "counts", "actor": "print", "uid": "one", "sequence": 1, "trace_id": "order-1", "w3c_trace_id": TRACE,
    }  # fmt: skip
    assert failed | of_both | {"duration_ms": 0, "timestamp": ""} == of_both | {
        "message": "attempt", "level": "warning", "timestamp": "", "attempt": 1, "outcome": "failed", "status": 500,
        "reason": "the actor answered 500", "decision": "Retry", "after_s": 0.05, "duration_ms": 0,
    }  # fmt: skip
    assert acknowledged | of_both | {"duration_ms": 0, "timestamp": ""} == of_both | {
        "message": "attempt", "level": "debug", "timestamp": "", "attempt": 2, "outcome": "acknowledged", "status": 204,
        "reason": "the actor answered 204", "decision": "Ack", "after_s": 0.0, "duration_ms": 0,
    }  # fmt: skip
    assert failed.items() >= of_both.items()
    assert acknowledged.items() >= of_both.items()
    assert failed["duration_ms"] > 0
    assert "secret payload" not in json.dumps(daemon.lines)


@pytest.mark.parametrize(
    ("status", "decision", "level"),
    [(422, "DeadLetter", "warning"), (410, "Pause", "warning"), (503, "Retry", "warning")],
)
async def test_what_did_not_succeed_is_a_warning(nats, receiver, tmp_path, status, decision, level) -> None:
    receiver.answer = answers(status)
    async with process(tmp_path / "daemon", one_actor(nats, receiver)) as daemon:
        assert daemon.sidecar is not None
        await daemon.sidecar.emit("counts", "1")
        await until(lambda: attempts(daemon))
    line = attempts(daemon)[0]
    assert (line["status"], line["decision"], line["level"]) == (status, decision, level)


async def test_what_succeeds_is_not_in_the_log_unless_asked_for(nats, receiver, tmp_path) -> None:
    async with process(tmp_path / "daemon", one_actor(nats, receiver)) as daemon:
        assert daemon.sidecar is not None
        for number in range(5):
            await daemon.sidecar.emit("counts", str(number))
        await receiver.wait_for(5)
        assert await daemon.end() == 0
    assert not attempts(daemon)


async def test_a_listener_that_leaves_is_no_warning(nats, receiver, tmp_path) -> None:
    text = one_actor(nats, receiver, url=None)
    async with process(tmp_path / "daemon", text) as daemon:
        assert daemon.sidecar is not None
        async with listener(daemon.sidecar.grpc) as leaving:
            await daemon.sidecar.emit("counts", "1")
            await leaving.wait_for(1)
        await until(lambda: attempts(daemon))
    assert [(line["outcome"], line["level"]) for line in attempts(daemon)] == [("handed-back", "info")]


async def test_text_is_for_people_and_json_for_machines_and_which_it_is_follows_from_the_terminal(tmp_path) -> None:
    """Run with standard error on a terminal: the daemon can't start, and says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = config_text("nats://127.0.0.1:1", http={"listen": f"127.0.0.1:{port}"})
        (tmp_path / "auto.yaml").write_text(refused)
        (tmp_path / "json.yaml").write_text(refused + "log: {format: json}\n")
        seen = {name: await on_a_terminal(tmp_path / name) for name in ("auto.yaml", "json.yaml")}
    assert f"127.0.0.1:{port}" in seen["auto.yaml"]
    assert "[error" in re.sub(r"\x1b\[[0-9;]*m", "", seen["auto.yaml"])
    line = json.loads(seen["json.yaml"].splitlines()[-1])
    assert line["level"] == "error"


async def on_a_terminal(file: Path) -> str:
    """What `walnatsd run` writes where standard error is a terminal."""
    ours, theirs = pty.openpty()
    try:
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "walnatsd", "run", "-c", str(file), stderr=theirs
        )
        assert await asyncio.wait_for(daemon.wait(), 30) == 1
        os.set_blocking(ours, False)
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
