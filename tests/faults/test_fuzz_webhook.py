"""Answers of every kind from a receiver: each attempt ends in a decision of the contract, and the next message comes through."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

from support import fuzz
from support.any_answer import ANSWERS, Answer
from support.conversations import Conversations
from support.daemon import Process, config_text, process
from support.waiting import until

PLAIN = b"HTTP/1.1 288 Fine\r\nContent-Length: 0\r\n\r\n"
"""How the receiver answers when it is not odd; the status tells the answer from any other."""
JOB_TIMEOUT_S = 0.5


def decision_of(status: int) -> str:
    """The table of the contract, section 5, for a first attempt of two."""
    if 200 <= status < 300:
        return "Ack"
    if status == 410:
        return "Pause"
    if status in (400, 413, 415, 422, 501):
        return "DeadLetter"
    if 400 <= status < 500 and status not in (401, 403, 404, 405, 407, 408, 409, 425, 429):
        return "DeadLetter"
    return "Retry"


class OddReceiver:
    """Answers the first attempt at each message as it is told to, and every other one plainly."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[str] = []
        """The uids of the messages, as they came."""
        self.port = 0
        self._conversations = Conversations(self._answer)

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._conversations.accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await self._conversations.break_off()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; tell whether another one may come."""
        lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n"))
        headers = {name.lower(): value for name, _, value in lines}
        await reader.readexactly(int(headers["content-length"]))
        uid = headers["walnats-uid"]
        self.seen.append(uid)
        answer = self.answers.pop(uid, None)
        if answer is None:
            writer.write(PLAIN)
            await writer.drain()
            return True
        for piece in answer.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if answer.end == "hang":
            await reader.read()  # until the caller hangs up
        elif answer.end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return answer.end == "stay"


class Judge:
    """Emits messages and sees what became of them."""

    def __init__(self, daemon: Process, receiver: OddReceiver) -> None:
        self._daemon = daemon
        self._receiver = receiver
        self._numbers = itertools.count()
        self._read = 0
        self.decisions: dict[str, list[dict[str, Any]]] = {}

    async def see(self, answer: Answer) -> None:
        """See that an attempt with this answer is decided as the contract says, and the next one is not disturbed."""
        first = await self._attempt(answer)
        if answer.status is not None:
            assert (first["decision"], first["status"]) == (decision_of(answer.status), answer.status), first
        assert first["decision"] in ("Ack", "Retry", "DeadLetter", "Pause"), first
        assert first["reason"] or first["decision"] == "Ack", first
        if first["decision"] == "Pause":
            await self._resume()
        if first["decision"] in ("Pause", "Retry"):
            second = await self._decision(first["uid"], 2)
            assert (second["decision"], second["status"]) == ("Ack", 288), second
        after = await self._attempt(None)
        assert (after["decision"], after["status"]) == ("Ack", 288), after
        assert after["uid"] in self._receiver.seen

    async def _attempt(self, answer: Answer | None) -> dict[str, Any]:
        assert self._daemon.sidecar is not None
        uid = f"m{next(self._numbers)}"
        if answer is not None:
            self._receiver.answers[uid] = answer
        await self._daemon.sidecar.emit("counts", "1", uid=uid)
        return await self._decision(uid, 1)

    async def _decision(self, uid: str, attempt: int) -> dict[str, Any]:
        """Wait for what is decided after an attempt at a message."""

        def decided() -> dict[str, Any] | None:
            for line in self._daemon.lines[self._read :]:
                if line.get("message") == "attempt":
                    self.decisions.setdefault(line["uid"], []).append(line)
            self._read = len(self._daemon.lines)
            found = self.decisions.get(uid, [])
            return found[attempt - 1] if len(found) >= attempt else None

        return await until(decided, timeout_s=30, what=f"attempt {attempt} at {uid}")

    async def _resume(self) -> None:
        sidecar = self._daemon.sidecar
        assert sidecar is not None
        async with sidecar.session.post(f"http://{sidecar.admin}/admin/v1/actors/counts/odd/resume") as response:
            assert response.status == 200, await response.text()


async def test_whatever_a_receiver_answers_it_is_decided_and_the_next_message_comes_through(nats, tmp_path) -> None:
    receiver = OddReceiver()
    async with receiver.up():
        actor = {
            "name": "odd", "event": "counts", "url": f"http://127.0.0.1:{receiver.port}/hook", "max_jobs": 1,
            "job_timeout": JOB_TIMEOUT_S, "retry": {"delays": [0.01], "jitter": 0, "max_attempts": 2},
            "breaker": {"consecutive": 1_000_000, "min_attempts": 1_000_000},
        }  # fmt: skip
        text = config_text(
            nats.url, events=[{"name": "counts"}], actors=[actor], log={"level": "debug", "format": "json"},
            dead_letters={"pause_actor_after": 1_000_000},
        )  # fmt: skip
        async with process(tmp_path / "daemon", text) as daemon:
            await fuzz.for_all(ANSWERS, Judge(daemon, receiver).see, short=120, long=1500)
            await fuzz.see_that_it_is_well(daemon, "counts")
    fuzz.see_no_surprise(daemon)
