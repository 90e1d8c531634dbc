"""`walnatsd tail`: what it prints, and its exit code."""

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

from support.access import bearer, guarded_text, token_of
from support.commands import walnatsd
from support.daemon import Sidecar, config_text, process, running
from support.waiting import until


class Tail:
    """The command at work."""

    def __init__(self, process: asyncio.subprocess.Process, watched: int) -> None:
        self.process = process
        self.said: list[str] = []
        self.err: list[str] = []
        self.watched = watched
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.said)),
            asyncio.create_task(self._read(process.stderr, self.err)),
        ]

    async def _read(self, stream: asyncio.StreamReader | None, into: list[str]) -> None:
        assert stream is not None
        async for line in stream:
            into.append(line.decode().rstrip("\n"))

    async def wait_for(self, count: int) -> list[str]:
        await until(lambda: len(self.said) >= count, what=f"{count} lines of tail, which says {self.err}")
        return self.said

    async def end(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        async with asyncio.timeout(30):
            code = await self.process.wait()
            await asyncio.gather(*self._readers)
        return code


@contextlib.asynccontextmanager
async def tail(sidecar: Sidecar, *events: str, options: tuple[str, ...] = ()) -> AsyncIterator[Tail]:
    """The command, given when it watches all of its events."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", "tail", "--http", sidecar.http, *options, *events,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    tailing = Tail(process, len(events))
    try:
        await until(lambda: len(tailing.err) >= len(events))
        yield tailing
    finally:
        if process.returncode is None:
            process.kill()
        await tailing.end()


def config(nats, *names: str, **parts: object) -> str:
    return config_text(nats.url, events=[{"name": name} for name in names], **parts)


async def test_each_message_is_a_line_that_people_can_read(nats) -> None:
    text = config_text(nats.url, events=[{"name": "counts"}, {"name": "odd", "codecs": [{"gzip": {}}]}])
    async with running(text) as sidecar, tail(sidecar, "counts", "odd") as tailing, nats.jetstream() as jetstream:
        await sidecar.emit("counts", '{"a": 1,\n "b": "ü"}', uid="u1")
        await tailing.wait_for(1)
        await sidecar.emit("counts", "plain\ntext \x1b[31mred", uid="u2", headers={"Content-Type": "text/plain"})
        await tailing.wait_for(2)
        await sidecar.emit("counts", b"\x89\xff", uid="u3", headers={"Content-Type": "image/png"})
        await tailing.wait_for(3)
        await jetstream.publish("odd", b"[1]")
        await tailing.wait_for(4)
        assert await tailing.end(signal.SIGINT) == 130
    assert sorted(tailing.err) == ["watching counts", "watching odd"]
    times, lines = zip(*[line.split("  ", 1) for line in tailing.said], strict=True)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d\.\d\d\d", time) for time in times)
    assert lines[:3] == (
        'counts  u1  {"a":1,"b":"ü"}',
        "counts  u2  plain text �[31mred",
        "counts  u3  (2 bytes) if8=",
    )
    assert re.fullmatch(r"odd  can't be decoded \(gzip: .*\):  \[1\]", lines[3])


async def test_in_json_each_message_is_a_cloudevent_on_a_line_of_its_own(nats) -> None:
    async with running(config(nats, "counts")) as sidecar, tail(sidecar, "counts", options=("--json",)) as tailing:
        await sidecar.emit("counts", '{"a":\r\n1.0,"b":"\u2028"}', uid="u")
        [line] = await tailing.wait_for(1)
    assert '{"a": 1.0,"b":"\u2028"}' in line
    assert (json.loads(line)["walnatsuid"], json.loads(line)["data"]) == ("u", {"a": 1, "b": "\u2028"})


async def test_it_says_why_it_ends(nats, tmp_path) -> None:
    async with process(tmp_path, config(nats, "counts")) as daemon:
        assert daemon.sidecar is not None
        unknown = await walnatsd("tail", "--http", daemon.sidecar.http, "nobody")
        async with tail(daemon.sidecar, "counts") as tailing:
            daemon.send_signal(signal.SIGTERM)
            assert await tailing.end() == 1
        address = daemon.sidecar.http
        await daemon.wait()
    away = await walnatsd("tail", "--http", address, "counts")
    assert tailing.err[-1] == "error: the daemon is stopping"
    assert (unknown.exit_code, unknown.out) == (1, b"")
    assert unknown.err.startswith("error: the event 'nobody' is not declared")
    assert (away.exit_code, away.out) == (1, b"")
    assert f"no walnatsd answers at {address}" in away.err


async def test_an_outage_of_nats_is_told(nats) -> None:
    async with running(config(nats, "counts")) as sidecar, tail(sidecar, "counts") as tailing:
        await nats.stop()
        await nats.start()
        await until(lambda: len(tailing.err) > 1)
        await sidecar.emit("counts", "1")
        await tailing.wait_for(1)
    assert tailing.err[1] == "counts: the connection to NATS was away; what was emitted meanwhile was not seen"


async def test_a_terminal_gets_colours_unless_it_wants_none(nats) -> None:
    async with running(config(nats, "counts")) as sidecar:
        coloured, plain = await _on_a_terminal(sidecar), await _on_a_terminal(sidecar, NO_COLOR="1")
    assert "\x1b[36m\x1b[1mcounts\x1b[0m" in coloured
    assert "\x1b" not in plain
    assert "counts" in plain


async def _on_a_terminal(sidecar: Sidecar, **environ: str) -> str:
    """What a terminal gets to see of one message."""
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", "tail", "--http", sidecar.http, "counts",
        stdout=its, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm", **environ},
    )  # fmt: skip
    os.close(its)
    assert process.stderr is not None
    assert await process.stderr.readline() == b"watching counts\n"
    await sidecar.emit("counts", "1")
    line = await asyncio.to_thread(os.read, ours, 4096)
    process.kill()
    await process.communicate()
    os.close(ours)
    return line.decode()


async def test_what_answers_and_is_no_daemon_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(60):
        host, port = server.sockets[0].getsockname()
        done = await walnatsd("tail", "--http", f"{host}:{port}", "counts")
    assert (done.exit_code, done.out) == (1, b"")
    assert done.err == f"error: what answers at {host}:{port} is no walnatsd; name its address with --http\n"


async def test_a_token_of_a_file_opens_the_feed(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    token = ("--token-file", str(tmp_path / "act"))
    async with (
        running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar,
        tail(sidecar, "counts", options=token) as tailing,
    ):
        assert tailing.err == ["watching counts"]
        await sidecar.emit("counts", "4711", headers=bearer(token_of("emit")))
        [line] = await tailing.wait_for(1)
        assert line.endswith("4711")
