"""Tracing with OpenTelemetry: where spans go, and which are kept.

Imported only where `otel` is configured, for it needs the extra.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util.types import Attributes

from walnatsd import __version__
from walnatsd.observe.errors import ObserveError
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.span_queue import SpanQueue
from walnatsd.observe.spans import SCHEMA_URL, Tracing

TRACES_PATH = "/v1/traces"
GRPC_PORT = 4317
"""The registered port of OTLP over gRPC; that of OTLP over HTTP is 4318."""


@contextlib.asynccontextmanager
async def open_tracing(
    endpoint: str,
    *,
    sample_ratio: float,
    service: str,
    metrics: Metrics,
    stop_within_s: Callable[[], float],
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[Tracing]:
    """Trace while the body runs, then export what is left, for `stop_within_s` seconds at most.

    Args:
        endpoint: Where spans go to, over OTLP.
        sample_ratio: Share of the traces that are begun here and kept; of others, who began them decided.
        service: The service's name.
        metrics: Where spans are counted.
        stop_within_s: Gives how long the last spans may take.
        environ: The environment, with the standard options of OpenTelemetry.

    Raises:
        ObserveError: One of these options makes no sense.
    """
    queue = SpanQueue(exporter(endpoint, environ), endpoint, metrics, environ)
    provider = TracerProvider(
        sampler=ParentBased(root=_Followed(sample_ratio)),
        resource=Resource.create({"service.name": service}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(queue)
    try:
        yield Tracing(provider.get_tracer("walnatsd", __version__, schema_url=SCHEMA_URL))
    finally:
        await queue.stop(stop_within_s())


def exporter(endpoint: str, environ: Mapping[str, str]) -> SpanExporter:
    """Make what speaks to the endpoint: OTLP over gRPC on its own port, else over HTTP, unless the environment says so.

    Everything else (headers, certificates, compression, the timeout) is read from OTEL_EXPORTER_OTLP_* by the exporter.
    """
    if protocol_of(endpoint, environ) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - one of the two
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(endpoint=endpoint)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - one of the two

    address = endpoint.rstrip("/")
    return OTLPSpanExporter(endpoint=address if address.endswith(TRACES_PATH) else address + TRACES_PATH)


def protocol_of(endpoint: str, environ: Mapping[str, str]) -> str:
    """Give the protocol of an endpoint, `grpc` or `http/protobuf`.

    Raises:
        ObserveError: The environment names another one.
    """
    said = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    if not said:
        return "grpc" if urlsplit(endpoint).port == GRPC_PORT else "http/protobuf"
    if said not in ("grpc", "http/protobuf"):
        raise ObserveError(
            f"the environment variable OTEL_EXPORTER_OTLP_PROTOCOL is grpc or http/protobuf, not {said!r}"
        )
    return said


class _Followed(Sampler):
    """Decides of spans without a parent: those of a batch are kept where a message of it is, others by ratio."""

    def __init__(self, ratio: float) -> None:
        self._by_ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        if not links:
            return self._by_ratio.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        keep = any(link.context.trace_flags.sampled for link in links)
        return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.DROP, attributes)

    def get_description(self) -> str:
        return f"Followed{{{self._by_ratio.get_description()}}}"
