"""Serving what plays the sidecar."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from walnatsd_client._proto import actors_pb2_grpc, events_pb2_grpc


class Servicer(events_pb2_grpc.EventsServicer, actors_pb2_grpc.ActorsServicer):
    """Both services of the sidecar."""

    @asynccontextmanager
    async def serve(self, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
        """Serve at the address until the block ends; then drop what is under way."""
        server = grpc.aio.server()
        events_pb2_grpc.add_EventsServicer_to_server(self, server)
        actors_pb2_grpc.add_ActorsServicer_to_server(self, server)
        port = server.add_insecure_port(address)
        await server.start()
        try:
            yield address.replace(":0", f":{port}")
        finally:
            await server.stop(None)
