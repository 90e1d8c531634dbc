"""The nats-server of walnatsd's own: found, started, watched over, shared, stopped last."""

import asyncio
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from support.daemon import Process, config_text, process
from support.nats_server import free_port
from support.receiver import Receiver
from support.waiting import until
from walnatsd.broker import embedded
from walnatsd.broker.embedded import EmbeddedServerError, embedded_server, find_binary
from walnatsd.config.settings import Embedded


class Place:
    """Where an embedded server is to run."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()

    def config(self, receiver: Receiver | None = None, **parts: Any) -> str:
        quick = {"ack_wait": 1, "retry": {"delays": [0.1]}, "breaker": {"open_for": 0.2}}
        actors = [{"name": "print", "event": "counts", "url": receiver.url} | quick] if receiver else []
        nats = {"embedded": {"data_dir": str(self.data_dir), "port": self.port}}
        return config_text(
            "nats://127.0.0.1:1", **({"nats": nats, "events": [{"name": "counts"}], "actors": actors} | parts)
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def server_pids(daemon: Process) -> list[int]:
    return [line["pid"] for line in daemon.lines if line.get("message") == "started the embedded nats-server"]


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# ---- found


def executable(path: Path, script: str = "exit 1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_binary_of_the_extra_wins_then_the_one_on_path(tmp_path, monkeypatch) -> None:
    in_extra, on_path = tmp_path / "scripts" / "nats-server", executable(tmp_path / "bin" / "nats-server")
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(in_extra.parent))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_binary() == str(on_path)
    executable(in_extra)
    assert find_binary() == str(in_extra)


def test_a_missing_binary_names_the_extra(place, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(place.config())
    code = (
        "import sys, sysconfig; sysconfig.get_path = lambda name: '/nowhere'; "
        f"from walnatsd.cli import main; main(['run', '-c', {str(file)!r}])"
    )
    environ = os.environ | {"PATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False, env=environ
    )
    assert ended.returncode == 1
    assert "pip install 'walnatsd[embedded]'" in ended.stderr
    assert "Traceback" not in ended.stderr


# ---- started, watched over


async def test_it_is_started_and_its_log_is_passed_on(place, receiver, tmp_path) -> None:
    async with process(tmp_path / "daemon", place.config(receiver, log={"level": "debug"})) as daemon:
        await daemon.sidecar.emit("counts", "7")
        await receiver.wait_for(1)
        ready = [line for line in daemon.lines if line["message"] == "Server is ready"]
        assert [(line["source"], line["level"]) for line in ready] == [("nats-server", "debug")]


async def test_the_flag_alone_is_enough(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WALNATSD_NATS__EMBEDDED__PORT", str(free_port()))
    async with process(
        tmp_path, config_text("nats://127.0.0.1:1", events=[{"name": "counts"}]), "--embedded"
    ) as daemon:
        assert len(server_pids(daemon)) == 1
        assert (tmp_path / "walnatsd-data" / "jetstream").is_dir()


async def test_a_server_that_is_killed_is_started_again_and_keeps_its_messages(place, receiver, tmp_path) -> None:
    await receiver.down()
    async with process(tmp_path / "daemon", place.config(receiver)) as daemon:
        for number in range(20):
            await daemon.sidecar.emit("counts", str(number), uid=str(number))
        os.kill(server_pids(daemon)[0], signal.SIGKILL)
        await until(lambda: len(server_pids(daemon)) == 2)
        await until(daemon.sidecar.is_ready)
        assert daemon.said("the embedded nats-server died; starting it again")
        assert (await daemon.sidecar.emit("counts", "7", uid="7"))["duplicate"]
        await receiver.up()
        await until(lambda: len(set(receiver.bodies)) == 20)


async def test_a_server_that_dies_again_and_again_is_started_with_a_growing_pause(place, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(embedded, "LONGEST_PAUSE_S", 0.05)
    binary = executable(tmp_path / "nats-server", "echo '[1] 2026/11/24 12:00:00 [FTL] no disk' >&2; exit 3")
    monkeypatch.setattr(embedded, "find_binary", lambda: str(binary))
    settings = Embedded(data_dir=str(place.data_dir), port=place.port)

    def pauses() -> list[float]:
        return [line["after_s"] for line in lines if "after_s" in line]

    with capture_logs() as lines:
        async with embedded_server(settings, stop_within_s=lambda: 1.0):
            await until(lambda: len(pauses()) >= 5)
    assert pauses()[:5] == [0.01, 0.02, 0.04, 0.05, 0.05]
    assert {"event": "no disk", "source": "nats-server", "log_level": "error"} in lines
    assert {line["code"] for line in lines if "after_s" in line} == {3}


async def test_a_server_whose_disk_was_full_is_started_anew_when_there_is_room_and_writes_again(
    place, receiver, tmp_path
) -> None:
    def hold_files_at(size: int) -> None:
        for pid in (daemon.pid, server_pids(daemon)[-1]):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async with process(tmp_path, place.config(receiver, emit={"timeout": 1})) as daemon:
        await daemon.sidecar.emit("counts", "1", uid="1")
        hold_files_at(1)
        status, answer = await daemon.sidecar.try_emit("counts", "2", uid="2")
        assert (status, answer["reason"], answer["maybe_stored"]) == (503, "NATS_UNAVAILABLE", True)
        await until(lambda: daemon.said("can't write; it is started anew"))
        hold_files_at(resource.RLIM_INFINITY)

        async def is_taken() -> bool:
            return (await daemon.sidecar.try_emit("counts", "2", uid="2"))[0] in (200, 201)

        await until(is_taken, timeout_s=30)
        await receiver.wait_for(2)
        assert await daemon.end() == 0
    assert [line["code"] for line in daemon.lines if "died" in line["message"]] == []
    assert sorted(set(receiver.bodies)) == [b"1", b"2"]


async def test_a_server_that_does_not_stop_is_killed(place, tmp_path, monkeypatch) -> None:
    binary = executable(tmp_path / "nats-server", "trap '' TERM; echo up >&2; while true; do sleep 0.05; done")
    monkeypatch.setattr(embedded, "find_binary", lambda: str(binary))
    settings = Embedded(data_dir=str(place.data_dir), port=place.port)
    with capture_logs() as lines:
        async with embedded_server(settings, stop_within_s=lambda: 0.2):
            await until(lambda: any(line["event"] == "up" for line in lines))
            [pid] = [line["pid"] for line in lines if "pid" in line]
    assert not runs(pid)


async def test_a_port_that_is_taken_is_explained(place, tmp_path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.port))
        other.listen()
        file = tmp_path / "walnatsd.yaml"
        file.write_text(place.config())
        ended = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "walnatsd", "run", "-c", str(file), stderr=asyncio.subprocess.PIPE
        )
        _, said = await ended.communicate()
    assert ended.returncode == 1
    [line] = said.decode().splitlines()
    assert f"can't start the embedded nats-server on 127.0.0.1:{place.port}: Address already in use" in line
    assert "set nats.servers instead of nats.embedded" in line


async def test_a_data_directory_that_cannot_be_used_is_explained(place) -> None:
    place.data_dir.write_text("a file")
    with pytest.raises(EmbeddedServerError, match=r"nats.embedded.data_dir .*data: File exists"):
        async with embedded_server(Embedded(data_dir=str(place.data_dir), port=place.port), stop_within_s=lambda: 1.0):
            pass


# ---- shared


async def test_several_sidecars_use_one_server_and_take_over_when_its_holder_is_killed(
    place, receiver, tmp_path
) -> None:
    async with (
        process(tmp_path / "first", place.config(receiver)) as first,
        process(tmp_path / "second", place.config(receiver)) as second,
        process(tmp_path / "third", place.config(receiver)) as third,
    ):
        for each in (second, third):
            assert each.said("another sidecar runs the embedded nats-server; using that one")
            assert server_pids(each) == []
        await second.sidecar.emit("counts", "1")
        [held] = server_pids(first)
        await first.end(signal.SIGKILL)
        await until(lambda: server_pids(second) or server_pids(third))
        assert not runs(held)
        await until(second.sidecar.is_ready)
        await until(third.sidecar.is_ready)
        assert len(server_pids(second) + server_pids(third)) == 1
        await third.sidecar.emit("counts", "2")
        await until(lambda: {b"1", b"2"} <= set(receiver.bodies))


# ---- stopped


async def test_it_is_stopped_last(place, receiver, tmp_path) -> None:
    release = asyncio.Event()

    async def slow(received: Any) -> Any:
        await release.wait()
        return await Receiver().answer(received)

    receiver.answer = slow
    async with process(tmp_path / "daemon", place.config(receiver)) as daemon:
        await daemon.sidecar.emit("counts", "7")
        await receiver.wait_for(1)
        [pid] = server_pids(daemon)
        daemon.send_signal(signal.SIGTERM)
        await until(lambda: daemon.said('"stopping"'))
        assert runs(pid)
        release.set()
        assert await daemon.wait() == 0
        assert not runs(pid)
    said = [line["message"] for line in daemon.lines]
    assert said[-2:] == ["stopped the embedded nats-server", "stopped"]
    async with process(tmp_path / "daemon", place.config(receiver)):
        assert len(receiver.received) == 1  # its ack was stored


async def test_nothing_is_left_behind_when_the_daemon_is_killed(place, tmp_path) -> None:
    async with process(tmp_path / "daemon", place.config()) as daemon:
        [pid] = server_pids(daemon)
        await daemon.end(signal.SIGKILL)
        await until(lambda: not runs(pid))
    async with process(tmp_path / "daemon", place.config()):
        pass  # neither the port nor the data directory is held
