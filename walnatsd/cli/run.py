"""`walnatsd run`."""

import asyncio
import contextlib
import functools
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click
import structlog

from walnatsd.broker.embedded import EmbeddedServerError
from walnatsd.cli.config_option import config_option, load_or_exit
from walnatsd.config.load import Loaded
from walnatsd.daemon import Daemon, running
from walnatsd.model.refusal import Refusal
from walnatsd.observe import logs
from walnatsd.observe.errors import ObserveError
from walnatsd.servers.sockets import ListenError
from walnatsd.spool.errors import SpoolFileError

FAILED = 1
MAX_OPEN_FILES = 65_536
GARBAGE_THRESHOLDS = 5_000, 20, 20
"""How much is made before the garbage collector looks for rings of it. Python's own 700 are made for some sixty emits."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXPLAINED = (ListenError, EmbeddedServerError, SpoolFileError, ObserveError)

_log = structlog.get_logger("walnatsd")


@click.command("run")
@config_option
@click.option("--embedded", is_flag=True, help="Start and supervise a nats-server, as nats.embedded: true does.")
@click.option("--burst", is_flag=True, help="Handle what is there, then exit.")
def command(file: str | None, embedded: bool, burst: bool) -> None:
    """Run the daemon until SIGTERM or SIGINT; a second signal ends it at once. SIGHUP reloads the config file."""
    environ = dict(os.environ)
    if embedded and not any(name.startswith("WALNATSD_NATS__EMBEDDED") for name in environ):
        environ["WALNATSD_NATS__EMBEDDED"] = "true"
    loaded = load_or_exit(file, environ)
    logs.set_up(loaded.config.log.level, loaded.config.log.format)
    _raise_limit_of_open_files()
    _set_up_garbage_collection()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can be followed, and when the loop has ended
    try:
        _loop_runner()(_run(loaded, burst=burst))
    except* _EXPLAINED as group:
        for error in _leaves(group):
            _log.error(str(error))
        sys.exit(FAILED)
    except* Exception as group:  # noqa: BLE001 - an unexpected exception of a background task ends the daemon, never silently
        for error in _leaves(group):
            _log.error("the daemon ends because of an unexpected error", exc_info=error)
        sys.exit(FAILED)


async def _run(loaded: Loaded, *, burst: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            _log.warning("a second signal; ending at once")
            os._exit(128 + number)
        stop.set()

    for each in _SIGNALS:
        loop.add_signal_handler(each, functools.partial(on_signal, each))
    async with running(loaded, environ=os.environ) as daemon, asyncio.TaskGroup() as tasks:

        async def reload() -> None:
            with contextlib.suppress(Refusal):  # it is logged; the daemon goes on as it is
                await daemon.reload.run()

        running_tasks: set[asyncio.Task[None]] = set()

        def on_hangup() -> None:
            if not stop.is_set():  # while it stops there is nothing to reload, and a stop must not be cut short
                running_tasks.add(tasks.create_task(reload(), name="reload"))

        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        if burst:
            running_tasks.add(tasks.create_task(_stop_when_drained(daemon, stop), name="burst"))
        await stop.wait()
        for task in running_tasks:
            task.cancel()
    _log.info("stopped")


async def _stop_when_drained(daemon: Daemon, stop: asyncio.Event) -> None:
    """Stop the daemon when its actors have nothing left to do."""
    await daemon.health.wait_ready()
    await _drained(daemon)
    _log.info("nothing is left to do")
    stop.set()


async def _drained(daemon: Daemon) -> None:
    """Wait until nothing is left to do.

    What is due is stored, what is in the spool is forwarded, each as far as it can be, and the actors have handled it.
    """
    await daemon.due.drained()
    await daemon.roster.drained()
    if (forwarder := daemon.forwarder) is None:
        return
    so_far = -1
    while so_far != forwarder.forwarded:  # the actors have made room in streams that were full
        so_far = forwarder.forwarded
        await forwarder.drained()
        await daemon.roster.drained()


def _raise_limit_of_open_files() -> None:
    """Take what the system allows: the usual limit of 1024 is one for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # then it goes on with what there is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _set_up_garbage_collection() -> None:
    """Leave alone what was imported: it lives as long as the process, and to look at all of it takes tens of milliseconds."""
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _loop_runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return asyncio.run
    return uvloop.run


def _leaves(group: BaseExceptionGroup[Any]) -> list[Exception]:
    """Flatten an exception group."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
