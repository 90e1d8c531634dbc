"""A gRPC channel that leads to objects in this process: no socket, no thread."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from walnatsd_client._proto import actors_pb2, events_pb2
from walnatsd_client.testing._refusal import Refusal

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class MemoryChannel:
    """What the generated stubs and `Connection` need of a channel.

    The methods are those of servicers without their context: they take a request (or an iterator of them) and return a
    response (or an iterator, which may begin with metadata), or raise `Refusal`.
    """

    def __init__(self, **servicers: object) -> None:
        """Lead to servicers, by the names of their services."""
        self._servicers = servicers
        self._under_way: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def channel_ready(self) -> None:
        """Return at once.

        Raises:
            grpc.aio.UsageError: The channel is closed.
        """
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")

    def unary_unary(self, path: str, *_: object, **__: object) -> Callable[..., Awaitable[Any]]:
        """Give a method that takes a request, or one that is written already, and gives a response."""
        handler = self._find(path)
        read = _reader(path)

        async def invoke(request: Message | bytes, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as gRPC's
            task = asyncio.ensure_future(
                handler(read(request if isinstance(request, bytes) else request.SerializeToString()))
            )
            self._keep(task)
            try:
                await asyncio.wait((task,), timeout=timeout)
                if not task.done():
                    raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
                return _copy(task.result())
            except Refusal as refusal:
                raise refusal.error() from None
            finally:
                task.cancel()

        return invoke

    def unary_stream(self, path: str, *_: object, **__: object) -> Callable[..., "MemoryStream[Any, Any]"]:
        """Give a method that takes a request and gives a stream."""
        handler = self._find(path)

        def invoke(request: Message, **_: object) -> MemoryStream[Any, Any]:
            return self._open(lambda _requests: handler(_copy(request)))

        return invoke

    def stream_stream(self, path: str, *_: object, **__: object) -> Callable[..., "MemoryStream[Any, Any]"]:
        """Give a method that opens a stream in both directions."""
        handler = self._find(path)
        return lambda **_: self._open(handler)

    async def close(self) -> None:
        """End all calls; who waits for them sees what gRPC shows when a channel is closed."""
        self._closed = True
        for each in self._under_way:
            each.cancel()
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _find(self, path: str) -> Callable[..., Any]:
        _, service, method = path.split("/")
        servicer = self._servicers[service.rpartition(".")[2]]

        async def not_there(*_: object) -> None:
            raise Refusal("NOT_SUPPORTED", f"the in-memory connection has no {method}")

        handler: Callable[..., Any] = getattr(servicer, method, not_there)
        return handler

    def _open(self, handler: Callable[[AsyncIterator[Any]], AsyncGenerator[Any, None]]) -> "MemoryStream[Any, Any]":
        stream: MemoryStream[Any, Any] = MemoryStream(handler)
        self._keep(stream.task)
        return stream

    def _keep(self, task: "asyncio.Future[Any]") -> None:
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


class MemoryStream(Generic[RequestT, ResponseT]):
    """A call with a stream, as gRPC's."""

    def __init__(self, handler: Callable[[AsyncIterator[RequestT]], AsyncGenerator[ResponseT, None]]) -> None:
        self._requests: asyncio.Queue[RequestT | None] = asyncio.Queue()
        self._metadata: asyncio.Future[grpc.aio.Metadata] = asyncio.get_running_loop().create_future()
        self._responses: asyncio.Queue[ResponseT | BaseException | None] = asyncio.Queue()
        self.task = asyncio.get_running_loop().create_task(self._serve(handler))

    async def write(self, request: RequestT) -> None:
        """Send a request.

        Raises:
            asyncio.InvalidStateError: The call has ended.
        """
        if self.task.done():
            raise asyncio.InvalidStateError("RPC already finished.")
        self._requests.put_nowait(_copy(request))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Give what the other side sent before its first response."""
        return await asyncio.shield(self._metadata)

    async def done_writing(self) -> None:
        """Send no more."""
        self._requests.put_nowait(None)

    async def read(self) -> Any:
        """Give the next response, `grpc.aio.EOF` at the end.

        Raises:
            grpc.aio.AioRpcError: The call has failed.
            asyncio.CancelledError: It was cancelled.
        """
        response = await self._responses.get()
        if isinstance(response, Message):
            return response
        self._responses.put_nowait(response)  # the end stays the end
        if response is None:
            return grpc.aio.EOF
        raise response

    def cancel(self) -> bool:
        """End the call."""
        return self.task.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Give responses until the end."""
        while (response := await self.read()) is not grpc.aio.EOF:
            yield response

    async def _serve(self, handler: Callable[[AsyncIterator[RequestT]], AsyncGenerator[ResponseT, None]]) -> None:
        end: BaseException | None = None
        try:
            async with aclosing(handler(self._read_requests())) as responses:
                async for response in responses:
                    if isinstance(response, grpc.aio.Metadata):
                        self._metadata.set_result(response)
                        continue
                    self._begin()
                    self._responses.put_nowait(_copy(response))
        except Refusal as refusal:
            end = refusal.error()
        except asyncio.CancelledError as cancelled:
            end = cancelled
            raise
        except Exception as error:
            end = _error(grpc.StatusCode.INTERNAL, repr(error))
            raise
        finally:
            self._begin()
            self._responses.put_nowait(end)

    def _begin(self) -> None:
        if not self._metadata.done():
            self._metadata.set_result(grpc.aio.Metadata())

    async def _read_requests(self) -> AsyncIterator[RequestT]:
        while (request := await self._requests.get()) is not None:
            yield request


def _reader(path: str) -> Callable[[bytes], Any]:
    """Give what reads the requests of a method."""
    _, service, method = path.split("/")
    package = actors_pb2 if service.endswith(".Actors") else events_pb2
    [of_service] = [each for each in package.DESCRIPTOR.services_by_name.values() if each.full_name == service]
    request: type[Message] = GetMessageClass(of_service.methods_by_name[method].input_type)
    return request.FromString


def _copy(message: Any) -> Any:
    """What went over a wire is another object."""
    return type(message).FromString(message.SerializeToString())


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
