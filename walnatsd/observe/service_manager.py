"""Telling systemd how the daemon fares: sd_notify(3), one datagram for each message."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

import structlog

from walnatsd.observe.health import Health

_log = structlog.get_logger("walnatsd.service_manager")


@contextlib.asynccontextmanager
async def service_manager(health: Health, environ: Mapping[str, str]) -> AsyncIterator[None]:
    """Tell the service manager, where there is one, how the daemon fares while the body runs.

    It hears `READY=1` once, when the daemon is ready for the first time; `STATUS=` with what keeps it from being ready,
    whenever that changes; `STOPPING=1`; and, where it wants to hear that (`WatchdogSec=`), `WATCHDOG=1` from the event
    loop, so that a daemon whose loop hangs is restarted.

    Args:
        health: What it is told of.
        environ: Where it says how to reach it: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        yield
        return
    if address[0] not in "/@":
        _log.warning("can't tell the service manager anything: NOTIFY_SOCKET is no Unix socket", address=address)
        yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        manager = _Manager(channel, address)
        async with asyncio.TaskGroup() as tasks:
            following = [tasks.create_task(manager.follow(health), name="service-manager/health")]
            if interval_s := _watchdog_s(environ):
                following.append(tasks.create_task(manager.pat(interval_s / 2), name="service-manager/watchdog"))
            try:
                yield
            finally:
                for task in following:
                    task.cancel()


class _Manager:
    def __init__(self, channel: socket.socket, address: str) -> None:
        self._channel = channel
        self._address = "\0" + address[1:] if address[0] == "@" else address  # @ stands for the abstract namespace

    async def follow(self, health: Health) -> None:
        told_ready = False
        while not health.is_stopping:
            if health.is_ready:
                self._tell("STATUS=ready" if told_ready else "READY=1\nSTATUS=ready")
                told_ready = True
            else:
                problems = "; ".join(f"{part}: {problem}" for part, problem in health.problems.items())
                self._tell("STATUS=not ready: " + " ".join(problems.split()))  # a line break would begin another word
            await health.wait_change()
        self._tell("STOPPING=1\nSTATUS=stopping")

    async def pat(self, period_s: float) -> None:
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(period_s)

    def _tell(self, message: str) -> None:
        try:
            self._channel.sendto(message.encode(), self._address)
        except OSError as error:  # it restarts, or has too much to read: the daemon does not depend on it
            _log.warning("can't tell the service manager", what=message, why=str(error))


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Give how often the manager wants to hear that the daemon lives, in seconds; 0 where it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0  # it means another process
    interval_us = environ.get("WATCHDOG_USEC", "")
    return int(interval_us) / 1e6 if interval_us.isdecimal() else 0.0
