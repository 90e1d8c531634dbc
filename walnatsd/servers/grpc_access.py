"""Tokens on gRPC: the metadata `authorization`."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from walnatsd.api.access import Access, Scopes
from walnatsd.model.refusal import Refusal
from walnatsd.servers.grpc_errors import refuse

Context = grpc.aio.ServicerContext[Any, Any]


def guarded(handler: Any, access: Access, needed: Scopes) -> Any:
    """Put a check of the token before the handler of a method."""
    if not needed:
        return handler
    [(kind, inner)] = [(kind, method) for kind in _KINDS if (method := getattr(handler, kind)) is not None]

    async def answer(request: Any, context: Context) -> Any:
        try:
            access.check(_authorization(context), needed)
        except Refusal as refusal:
            await refuse(context, refusal)
        return await inner(request, context)

    async def write(request: Any, context: Context) -> None:
        try:
            with _holding(access, context, needed):
                await inner(request, context)
        except Refusal as refusal:
            await refuse(context, refusal)

    async def give(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            with _holding(access, context, needed):
                async for response in inner(request, context):
                    yield response
        except Refusal as refusal:
            await refuse(context, refusal)

    if not handler.response_streaming:
        return handler._replace(**{kind: answer})
    return handler._replace(**{kind: give if inspect.isasyncgenfunction(inner) else write})


_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@contextlib.contextmanager
def _holding(access: Access, context: Context, needed: Scopes) -> Iterator[None]:
    """Let a stream pass; where its access is taken away, what runs in the body is cancelled, and the Refusal raised."""
    task = asyncio.current_task()
    assert task is not None
    why: Refusal | None = None

    def end(refusal: Refusal) -> None:
        nonlocal why
        if why is None:
            why = refusal
            task.cancel()

    with access.holding(_authorization(context), needed, end):
        try:
            yield
        except asyncio.CancelledError:
            if why is None or task.uncancel():
                raise  # the caller has gone
            raise why from None


def _authorization(context: Context) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            return value if isinstance(value, str) else value.decode("latin-1")
    return None
