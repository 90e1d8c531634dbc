"""Decorators of handlers for what belongs in the application and not in the sidecar."""

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, overload

from walnatsd_client._execution import is_async

P = ParamSpec("P")
R = TypeVar("R")

LOGGER = logging.getLogger("walnatsd_client")


def require(
    predicate: Callable[[], bool], *, pause: float = 0.1
) -> Callable[[Callable[P, object]], Callable[P, Awaitable[object]]]:
    """Let a handler start only when something is true, like a database being connected.

    Until then the message waits here, within the actor's `job_timeout`. Where the wait may be long, `wait_for` of the
    actor is better: it leaves the messages in NATS.

    Args:
        predicate: Looked at before each message.
        pause: Seconds between looks.
    """

    def decorate(handler: Callable[P, object]) -> Callable[P, Awaitable[object]]:
        @functools.wraps(handler)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> object:
            while not predicate():  # noqa: ASYNC110 - a predicate has no event to wait for
                await asyncio.sleep(pause)
            if is_async(handler):
                result: Any = handler(*args, **kwargs)
            else:
                result = await asyncio.to_thread(handler, *args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return wrapper

    return decorate


class suppress:  # noqa: N801 - a decorator
    """Take exceptions of a handler for success: the message is done, for another attempt would not help either.

    Better say what is meant: `raise Reject(reason)` keeps the message as a dead letter.
    """

    def __init__(self, *exceptions: type[Exception], logger: logging.Logger | None = LOGGER) -> None:
        """Say what is suppressed.

        Args:
            exceptions: Exception types.
            logger: Where it is logged, with its trace; None: nowhere.
        """
        self._exceptions = exceptions
        self._logger = logger

    @overload
    def __call__(self, handler: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R | None]]: ...
    @overload
    def __call__(self, handler: Callable[P, R]) -> Callable[P, R | None]: ...
    def __call__(self, handler: Callable[P, Any]) -> Callable[P, Any]:
        """Wrap a handler; an async one stays async."""
        if is_async(handler):

            @functools.wraps(handler)
            async def wrapper(*args: P.args, **kwargs: P.kwargs) -> object:
                try:
                    return await handler(*args, **kwargs)
                except self._exceptions as error:
                    self._log(handler, error)
                    return None

            return wrapper

        @functools.wraps(handler)
        def plain_wrapper(*args: P.args, **kwargs: P.kwargs) -> object:
            try:
                return handler(*args, **kwargs)
            except self._exceptions as error:
                self._log(handler, error)
                return None

        return plain_wrapper

    def _log(self, handler: Callable[..., object], error: Exception) -> None:
        if self._logger is not None:
            name = getattr(handler, "__qualname__", handler)
            self._logger.error("suppressed in the handler %s", name, exc_info=error)
