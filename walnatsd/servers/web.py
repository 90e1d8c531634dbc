"""Serving an HTTP application on an address."""

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.http import HttpProcessingError

from walnatsd.api.errors import TABLE
from walnatsd.config.certificates import Certificates
from walnatsd.config.tls import load_tls
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.door import refused
from walnatsd.servers.sockets import bound_address, open_socket

LEAST_S = 0.01

_log = logging.getLogger("walnatsd.web")


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Keep what callers do wrong (bytes that are no HTTP, calls broken off) out of the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, web.RequestPayloadError, ConnectionError))


_log.addFilter(_is_our_fault)


class _Protocol(web.RequestHandler):
    """Tells in problem details what is no good HTTP; aiohttp does it in plain text."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what can't be parsed. Raises ConnectionError where an answer has begun already."""
        plain = super().handle_error(request, status, exc, message)
        if status != TABLE[Reason.INVALID_REQUEST].http:
            return plain
        why = " ".join((message or str(exc)).removeprefix("400, message:").split()).rstrip("^ ")
        answer = refused(Refusal(Reason.INVALID_REQUEST, f"this is no good HTTP: {why[:500]}"))
        answer.force_close()
        return answer


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


def _front(certificates: Certificates) -> ssl.SSLContext:
    """Make the context that connections begin with; it hands each of them to that of the latest certificates."""

    def hand_over(connection: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
        connection.context = certificates.context

    front = load_tls(certificates.files).context
    front.sni_callback = hand_over  # called for callers that name no server, too
    return front


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        options = plain._kwargs  # noqa: SLF001 - as the application made them
        return _Server(plain.request_handler, request_factory=plain.request_factory, **options)


@contextlib.asynccontextmanager
async def serve_web(
    name: str,
    listen: str,
    app: web.Application,
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
    runner = _Runner(
        app,
        access_log=None,
        logger=_log,
        handle_signals=False,
        auto_decompress=False,  # it takes truncated gzip for complete
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=None if tls is None else _front(tls)).start()
        yield bound_address(listening)
    finally:
        # Not known when the runner is made; spent twice, on waiting and on cancelling; 0 would mean for ever.
        runner._shutdown_timeout = max(stop_within_s() / 2, LEAST_S)  # noqa: SLF001
        await runner.cleanup()
        listening.close()
