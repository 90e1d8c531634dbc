"""The gRPC address: both services, the standard health service, reflection."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from walnatsd.api.access import Access, needed_for
from walnatsd.api.actors import Actors
from walnatsd.api.events import Events
from walnatsd.config.listen import Tcp, Unix, parse_address
from walnatsd.observe.health import Health
from walnatsd.servers.grpc_access import guarded
from walnatsd.servers.grpc_actors import ActorsServicer
from walnatsd.servers.grpc_errors import Services
from walnatsd.servers.grpc_events import EventsServicer
from walnatsd.servers.grpc_health import HealthServicer
from walnatsd.servers.sockets import cannot_listen, open_socket
from walnatsd.v1 import actors_pb2, actors_pb2_grpc, events_pb2, events_pb2_grpc

MAX_MESSAGE_BYTES = 68 << 20
"""The largest payload that NATS can be told to take, and its headers. gRPC's own answer beyond this has no reason."""

KEEPALIVE_S = 10.0
KEEPALIVE_TIMEOUT_S = 5.0
"""A client that is gone without a word is noticed by pings within the sum of the two."""
CLIENT_PINGS_S = 5.0
"""How often a client may look for us in the same way; gRPC's own limit of 5 minutes would cut it off."""

_SERVICES = (
    events_pb2.DESCRIPTOR.services_by_name["Events"].full_name,
    actors_pb2.DESCRIPTOR.services_by_name["Actors"].full_name,
)


@contextlib.asynccontextmanager
async def serve_grpc(
    listen: str,
    events: Events,
    actors: Actors,
    health: Health,
    *,
    access: Access | None,
    stop_within_s: Callable[[], float],
) -> AsyncIterator[str]:
    """Serve while the body runs; gives the address. Without `access`, nobody is asked for a token.

    Afterwards calls in flight are answered first, for as long as `stop_within_s` then gives.

    Raises:
        ListenError: The address can't be listened on.
    """
    server = grpc.aio.server(options=_options())
    services = Services()
    events_pb2_grpc.add_EventsServicer_to_server(EventsServicer(events), services)  # type: ignore[arg-type]
    actors_pb2_grpc.add_ActorsServicer_to_server(ActorsServicer(actors), services)  # type: ignore[arg-type]
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(health, _SERVICES), server)
    reflected = reflection.aio.ReflectionServicer((*_SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, services)
    services.add_to(
        server, lambda name, handler: guarded(handler, access, needed_for(name)) if access is not None else handler
    )
    try:
        bound = _bind(server, listen)
        await server.start()
        yield bound
    finally:
        await server.stop(stop_within_s())


def _options() -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # two daemons on one port would take turns unnoticed
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", round(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.http2.ping_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),  # the line above alone leaves it at a minute
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", round(CLIENT_PINGS_S * 1000)),
    ]


def _bind(server: grpc.aio.Server, listen: str) -> str:
    address = parse_address(listen)
    if isinstance(address, Tcp) and address.port == 0:
        return str(Tcp(address.host, server.add_insecure_port(listen)))
    open_socket("grpc", listen).close()  # gRPC's own error does not say what is wrong
    if isinstance(address, Unix):
        Path(address.path).unlink(missing_ok=True)  # gRPC makes the socket file itself
    try:
        server.add_insecure_port(listen)
    except RuntimeError as error:
        raise cannot_listen("grpc", listen, str(error)) from None
    return str(address)
