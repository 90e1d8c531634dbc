"""systemd hears when the daemon is ready, what keeps it from that, that it lives, and that it stops: sd_notify(3)."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.daemon import config_text, process
from support.nats_server import free_port
from support.waiting import until
from walnatsd.observe.health import Health
from walnatsd.observe.service_manager import service_manager


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._told: list[str] = []

    @property
    def told(self) -> list[str]:
        """All words that came, in their order."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._told += self._channel.recv(4096).decode().split("\n")
        return self._told

    async def hear(self, word: str) -> None:
        await until(lambda: word in self.told, what=word)


@contextlib.contextmanager
def manager_at(address: str) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + address[1:] if address[0] == "@" else address)
        channel.setblocking(False)
        yield Manager(channel)


@pytest.fixture
def manager(tmp_path, monkeypatch) -> Iterator[Manager]:
    """The manager of all daemons that this test starts."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with manager_at(address) as it:
        yield it


async def test_it_hears_that_the_daemon_is_ready_and_later_that_it_stops(nats, tmp_path, manager) -> None:
    async with process(tmp_path / "daemon", config_text(nats.url)) as daemon:
        await manager.hear("READY=1")
        before = manager.told[: manager.told.index("READY=1")]
        assert before, "it was told of the start before"
        assert before[0].startswith("STATUS=not ready: startup: the declared events")
        assert "STATUS=ready" in manager.told
        assert "STOPPING=1" not in manager.told
        assert await daemon.end() == 0
    assert manager.told[-2:] == ["STOPPING=1", "STATUS=stopping"]
    assert manager.told.count("READY=1") == 1


async def test_a_daemon_that_waits_for_nats_is_not_ready_and_says_what_it_waits_for(tmp_path, manager) -> None:
    away = f"nats://127.0.0.1:{free_port()}"
    async with process(tmp_path / "daemon", config_text(away), ready=False) as daemon:
        await until(lambda: any(f"waiting for NATS at {away}" in word for word in manager.told))
        assert await daemon.end() == 0
    assert "READY=1" not in manager.told
    assert "STOPPING=1" in manager.told


async def test_the_status_follows_an_outage_of_nats_and_ready_is_said_once(nats, tmp_path, manager) -> None:
    async with process(tmp_path / "daemon", config_text(nats.url)):
        await manager.hear("READY=1")
        await nats.kill()
        await until(lambda: "waiting for NATS" in manager.told[-1])
        await nats.start()
        await until(lambda: manager.told[-1] == "STATUS=ready")
    assert manager.told.count("READY=1") == 1


async def test_a_manager_with_a_watchdog_hears_that_the_daemon_lives_until_its_very_end(
    nats, tmp_path, manager, monkeypatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    async with process(tmp_path / "daemon", config_text(nats.url)) as daemon:
        await until(lambda: manager.told.count("WATCHDOG=1") >= 3)
        assert await daemon.end() == 0


@contextlib.asynccontextmanager
async def told(health: Health, **environ: str) -> AsyncIterator[Manager]:
    """What a manager at an abstract address hears of this health."""
    address = f"@walnatsd-{secrets.token_hex(8)}"
    with manager_at(address) as manager:
        async with service_manager(health, {"NOTIFY_SOCKET": address, **environ}):
            yield manager


async def test_an_abstract_address_will_do_and_each_message_is_one_line(tmp_path) -> None:
    health = Health()
    health.set_problem("nats", "no\nREADY=1")
    async with told(health) as manager:
        await manager.hear("STATUS=not ready: nats: no READY=1")
        assert "READY=1" not in manager.told
        health.clear("nats")
        await manager.hear("READY=1")


async def test_a_watchdog_of_another_process_hears_nothing() -> None:
    other = str(os.getpid() + 1)
    health = Health()
    async with told(health, WATCHDOG_USEC="1000", WATCHDOG_PID=other) as manager:
        await manager.hear("READY=1")
        health.set_problem("nats", "away")
        await manager.hear("STATUS=not ready: nats: away")
        assert "WATCHDOG=1" not in manager.told
    async with told(Health(), WATCHDOG_USEC="1000", WATCHDOG_PID=str(os.getpid())) as manager:
        await manager.hear("WATCHDOG=1")


async def test_a_manager_that_is_away_or_speaks_otherwise_is_no_reason_to_fail(tmp_path: Path, capsys) -> None:
    for address in (str(tmp_path / "nobody"), "vsock:2:1"):
        async with service_manager(Health(), {"NOTIFY_SOCKET": address}):
            await until(lambda: "can't tell the service manager" in capsys.readouterr().out)


async def test_without_a_manager_nothing_is_done() -> None:
    tasks = asyncio.all_tasks()
    async with service_manager(Health(), {"WATCHDOG_USEC": "1000"}):
        assert asyncio.all_tasks() == tasks
