"""An empty gRPC server that answers every call: what a unary call costs before anything is done for it."""

import asyncio
from typing import Any

import grpc
import uvloop

from walnatsd.v1 import events_pb2


async def main() -> None:
    async def echo(_request: events_pb2.EmitRequest, _context: Any) -> events_pb2.EmitResponse:
        return events_pb2.EmitResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        echo,
        request_deserializer=events_pb2.EmitRequest.FromString,
        response_serializer=events_pb2.EmitResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
