"""Waiting for conditions instead of sleeping."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], T | Awaitable[T]], *, timeout_s: float = 15.0, what: str = "") -> T:
    """Wait until a condition gives something true; fail with what it gave last."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if loop.time() > deadline:
            raise AssertionError(
                f"waited {timeout_s} s in vain for {what or inspect.getsource(condition).strip()}; last: {value!r}"
            )
        await asyncio.sleep(0.01)
