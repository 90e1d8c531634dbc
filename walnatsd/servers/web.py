"""Serving an HTTP application on an address."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from walnatsd.servers.sockets import bound_address, open_socket

SHUTDOWN_TIMEOUT_S = 5.0


@contextlib.asynccontextmanager
async def serve_web(name: str, listen: str, app: web.Application) -> AsyncIterator[str]:
    """Serve while the body runs; gives the address. Afterwards requests in flight are answered first.

    Raises:
        ListenError: The address can't be listened on.
    """
    listening = open_socket(name, listen)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S, handle_signals=False)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield bound_address(listening)
    finally:
        await runner.cleanup()
        listening.close()
