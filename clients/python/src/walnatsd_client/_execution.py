"""Where a handler runs: on the loop, in a thread, in a process."""

import asyncio
import functools
import inspect
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Literal

from walnatsd_client._delivery import CURRENT, Delivery

ExecuteIn = Literal["main", "thread", "process"]


def is_async(handler: Callable[..., object]) -> bool:
    """Whether calling a handler gives an awaitable without doing its work."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004 - asks how, not whether


def where(handler: Callable[..., object], execute_in: ExecuteIn | None) -> ExecuteIn:
    """Tell where a handler runs: unless that is said, an async one on the loop, a sync one in a thread."""
    return execute_in or ("main" if is_async(handler) else "thread")


async def call(handler: Callable[..., object], message: object, execute_in: ExecuteIn) -> object:
    """Call a handler there and wait for what it gives."""
    if execute_in == "process":
        run = functools.partial(_call_in_process, CURRENT.get(), handler, message)
        return await asyncio.get_running_loop().run_in_executor(_processes(), run)
    if execute_in == "main":
        result = handler(message)
    else:
        result = await asyncio.to_thread(_call_plainly, handler, message)
    return await result if inspect.isawaitable(result) else result


@functools.cache
def _processes() -> ProcessPoolExecutor:
    """Start the processes of this application, as many as it has cores; they end with it."""
    # not forked: threads of gRPC and of the application would be missing in the children
    return ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))


def _call_in_process(delivery: Delivery, handler: Callable[..., object], message: object) -> object:
    CURRENT.set(delivery)
    if is_async(handler):
        return asyncio.run(_finish(handler, message))
    return _call_plainly(handler, message)


async def _finish(handler: Callable[..., object], message: object) -> object:
    result = handler(message)
    return await result if inspect.isawaitable(result) else result


def _call_plainly(handler: Callable[..., object], message: object) -> object:
    try:
        return handler(message)
    except StopIteration as error:
        # A future can't carry it: whoever awaits it would wait for ever.
        raise RuntimeError("the handler raised StopIteration") from error
