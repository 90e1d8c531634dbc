"""The standard health service: what /readyz says, over gRPC."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from walnatsd.observe.health import Health

Answer: Any = health_pb2.HealthCheckResponse  # its package has no types
Context = grpc.aio.ServicerContext[Any, Any]


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """All services share one readiness. Watching ends when the daemon stops, so that nobody holds it up."""

    def __init__(self, health: Health, services: Sequence[str]) -> None:
        self._health = health
        self._services = {"", *services}

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:  # noqa: N802
        """Answer how it is now."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return Answer(status=self._status())

    async def Watch(self, request: health_pb2.HealthCheckRequest, _context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """Answer how it is now and whenever it changes."""
        told = None
        while True:
            status = self._status() if request.service in self._services else Answer.SERVICE_UNKNOWN
            if status != told:
                yield Answer(status=status)
                told = status  # and look again: it may have changed meanwhile
            elif self._health.is_stopping:
                return
            else:
                await self._health.wait_change()

    def _status(self) -> Any:
        return Answer.SERVING if self._health.is_ready else Answer.NOT_SERVING
