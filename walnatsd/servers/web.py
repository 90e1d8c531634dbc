"""Serving an HTTP application on an address."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.http import HttpProcessingError

from walnatsd.servers.sockets import bound_address, open_socket

LEAST_S = 0.01

_log = logging.getLogger("walnatsd.web")


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Keep what callers do wrong (bytes that are no HTTP, calls broken off) out of the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, web.RequestPayloadError, ConnectionError))


_log.addFilter(_is_our_fault)


@contextlib.asynccontextmanager
async def serve_web(
    name: str, listen: str, app: web.Application, *, stop_within_s: Callable[[], float]
) -> AsyncIterator[str]:
    """Serve while the body runs; gives the address.

    Afterwards requests in flight are answered first, for as long as `stop_within_s` then gives.

    Raises:
        ListenError: The address can't be listened on.
    """
    listening = open_socket(name, listen)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_log,
        handle_signals=False,
        auto_decompress=False,  # it takes truncated gzip for complete
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield bound_address(listening)
    finally:
        # Not known when the runner is made; spent twice, on waiting and on cancelling; 0 would mean for ever.
        runner._shutdown_timeout = max(stop_within_s() / 2, LEAST_S)  # noqa: SLF001
        await runner.cleanup()
        listening.close()
