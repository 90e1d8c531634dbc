"""Serving an HTTP application on an address."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.http import HttpProcessingError

from walnatsd.config.certificates import Certificates
from walnatsd.observe.metrics import Metrics
from walnatsd.servers.connections import Runner, Site
from walnatsd.servers.sockets import bound_address, open_socket

LEAST_S = 0.01

_log = logging.getLogger("walnatsd.web")


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Keep what callers do wrong (bytes that are no HTTP, calls broken off) out of the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, web.RequestPayloadError, ConnectionError))


_log.addFilter(_is_our_fault)


def _front(certificates: Certificates) -> ssl.SSLContext:
    """Give the context that connections begin with; it hands each of them to that of the latest certificates."""

    def hand_over(connection: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
        connection.context = certificates.context

    front = certificates.context
    front.sni_callback = hand_over  # called for callers that name no server, too
    return front


@contextlib.asynccontextmanager
async def serve_web(
    name: str,
    listen: str,
    app: web.Application,
    metrics: Metrics,
    *,
    tls: Certificates | None = None,
    stop_within_s: Callable[[], float],
) -> AsyncIterator[str]:
    """Serve while the body runs; gives the address.

    Afterwards requests in flight are answered first, for as long as `stop_within_s` then gives.

    Raises:
        ListenError: The address can't be listened on.
    """
    listening = open_socket(name, listen)
    runner = Runner(
        app,
        lambda why: metrics.connections_cut(name, why).inc(),
        access_log=None,
        logger=_log,
        handle_signals=False,
        auto_decompress=False,  # it takes truncated gzip for complete
    )
    await runner.setup()
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(runner.server.watch(), name=f"{name}/connections")
        try:
            await Site(runner, listening, ssl_context=None if tls is None else _front(tls)).start()
            yield bound_address(listening)
        finally:
            # Not known when the runner is made; spent twice, on waiting and on cancelling; 0 would mean for ever.
            runner._shutdown_timeout = max(stop_within_s() / 2, LEAST_S)  # noqa: SLF001
            await runner.cleanup()
            listening.close()
            watch.cancel()
