"""A real receiver of OTLP, over HTTP and over gRPC."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from support.receiver import serving
from support.waiting import until

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}


@dataclass(frozen=True)
class Span:
    """A span as it came over the wire."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    """Traces and spans."""
    attributes: dict[str, Any]
    failed: bool
    said: str
    """Of its status."""
    start_ns: int
    end_ns: int
    resource: dict[str, Any] = field(repr=False)
    scope: tuple[str, str, str] = field(repr=False)
    """Name, version, schema."""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace}-{self.id}-01"


class OtlpReceiver:
    """Records spans. `status` is what it answers over HTTP."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.requests = 0
        self.headers: dict[str, str] = {}
        """Of the latest request."""
        self.status = 200

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def wait_for(self, name: str, count: int = 1) -> list[Span]:
        """Wait until that many spans of a name have come; in the order of their beginning."""
        await until(lambda: len(self.named(name)) >= count, what=f"{count} spans {name!r}; have {self.names}")
        return sorted(self.named(name), key=lambda span: span.start_ns)

    async def wait_for_one(self, name: str) -> Span:
        [span] = await self.wait_for(name)
        return span

    @property
    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)

    def take(self, request: ExportTraceServiceRequest) -> None:
        self.requests += 1
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                scope = (of_scope.scope.name, of_scope.scope.version, of_scope.schema_url)
                self.spans += [_span(span, resource, scope) for span in of_scope.spans]


def _span(span: Any, resource: dict[str, Any], scope: tuple[str, str, str]) -> Span:
    return Span(
        span.name, KINDS[span.kind], span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links), _attributes(span.attributes),
        span.status.code == 2, span.status.message, span.start_time_unix_nano, span.end_time_unix_nano, resource, scope,
    )  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextlib.asynccontextmanager
async def otlp_receiver() -> AsyncIterator[OtlpReceiver]:
    """Listen for OTLP over HTTP."""
    receiver = OtlpReceiver()

    async def export(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        receiver.headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        if receiver.status != 200:
            receiver.requests += 1
            return web.Response(status=receiver.status)
        receiver.take(ExportTraceServiceRequest.FromString(body))
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", export)
    async with serving(app) as address:
        receiver.url = f"http://{address}"
        yield receiver


@contextlib.asynccontextmanager
async def otlp_grpc_receiver() -> AsyncIterator[OtlpReceiver]:
    """Listen for OTLP over gRPC."""
    receiver = OtlpReceiver()

    class Service(TraceServiceServicer):  # type: ignore[misc]
        async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            receiver.headers = dict(context.invocation_metadata())
            receiver.take(request)
            return ExportTraceServiceResponse()

    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(Service(), server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield receiver
    finally:
        await asyncio.shield(server.stop(0))
