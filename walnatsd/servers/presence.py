"""Whether a caller over HTTP is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")

LOOK_S = 1.0
"""How often to look. aiohttp tells nobody, and would let the handler go on to its end."""


async def while_connected(request: web.Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Do some work whose result is for the caller alone; it is cancelled when the caller has gone.

    Returns:
        The result, None where there is nobody to give it to.
    """
    task = asyncio.create_task(work, name=f"http{request.path}")
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_S)
            if not task.done() and (request.transport is None or request.transport.is_closing()):
                return None
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
