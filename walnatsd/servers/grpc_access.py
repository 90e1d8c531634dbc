"""Tokens on gRPC: the metadata `authorization`."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

import grpc

from walnatsd.api.access import Access, Scopes, needed_for
from walnatsd.model.refusal import Refusal
from walnatsd.servers.grpc_errors import refuse

Context = grpc.aio.ServicerContext[Any, Any]


class Door(grpc.GenericRpcHandler):
    """The methods that are served, each behind a check of the token before anything of the request is read."""

    def __init__(self, methods: Mapping[str, Any], access: Access | None) -> None:
        """Prepare.

        Args:
            methods: The handlers by `service/method`.
            access: Which tokens open what; None: nobody is asked for one.
        """
        self._access = access
        needs = {name: needed_for(name) for name in methods}
        self._methods = {
            f"/{name}": (handler if access is None else _held(handler, access, needs[name]), needs[name])
            for name, handler in methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Find the method of a call; of a caller who may not, one that refuses and leaves the request unread."""
        found = self._methods.get(handler_call_details.method)
        if found is None:
            return None
        handler, needed = found
        if self._access is not None:
            try:
                self._access.check(_authorization(handler_call_details.invocation_metadata), needed)
            except Refusal as refusal:
                return _refusing(refusal)
        return handler


def _refusing(refusal: Refusal) -> Any:
    async def answer(_unread: Any, context: Context) -> None:
        await refuse(context, refusal)

    return grpc.stream_unary_rpc_method_handler(answer)  # what takes a stream is called before anything has come


def _held(handler: Any, access: Access, needed: Scopes) -> Any:
    """Let a reload that takes the token away end the calls that last: those with a stream of answers."""
    if not needed or not handler.response_streaming:
        return handler
    [(kind, inner)] = [(kind, method) for kind in _KINDS if (method := getattr(handler, kind)) is not None]

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

    return handler._replace(**{kind: give if inspect.isasyncgenfunction(inner) else write})


_KINDS = ("unary_stream", "stream_stream")


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

    with access.holding(_authorization(context.invocation_metadata()), needed, end):
        try:
            yield
        except asyncio.CancelledError:
            if why is None or task.uncancel():
                raise  # the caller has gone
            raise why from None


def _authorization(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    for name, value in metadata or ():
        if name == "authorization":
            return value if isinstance(value, str) else value.decode("latin-1")
    return None
