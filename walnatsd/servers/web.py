"""Serving an HTTP application on an address."""

import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http import HttpProcessingError

from walnatsd.servers.sockets import bound_address, open_socket

SHUTDOWN_TIMEOUT_S = 5.0

_log = logging.getLogger("walnatsd.web")


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Keep what callers do wrong (bytes that are no HTTP, calls broken off) out of the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, web.RequestPayloadError, ConnectionError))


_log.addFilter(_is_our_fault)


@contextlib.asynccontextmanager
async def serve_web(name: str, listen: str, app: web.Application) -> AsyncIterator[str]:
    """Serve while the body runs; gives the address. Afterwards requests in flight are answered first.

    Raises:
        ListenError: The address can't be listened on.
    """
    listening = open_socket(name, listen)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_log,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        handle_signals=False,
        auto_decompress=False,  # it takes truncated gzip for complete
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield bound_address(listening)
    finally:
        await runner.cleanup()
        listening.close()
