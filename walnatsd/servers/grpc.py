"""The gRPC address: both services, the standard health service, reflection."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from walnatsd.api.access import Access
from walnatsd.api.actors import Actors
from walnatsd.api.events import Events
from walnatsd.config.certificates import Certificates
from walnatsd.config.listen import Tcp, Unix, parse_address
from walnatsd.config.tls import Tls
from walnatsd.observe.health import Health
from walnatsd.servers.grpc_access import Door
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
HANDSHAKE_TIMEOUT_S = 10.0
"""How long a client may take to come through with TLS and HTTP/2; gRPC's own limit is two minutes."""
IDLE_S = 1800.0
"""A connection without a call is closed after this; a client makes another for its next call, unnoticed."""
MAX_STREAMS = 10_000
"""Calls at once on one connection; the client holds back what is above. As many as `emit.max_in_flight` has by default: a client
may listen to a thousand actors beside."""
MAX_METADATA_BYTES = 16 << 10
"""Of one call, above which it is refused."""

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
    tls: Certificates | None = None,
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
    services.add_to(server, lambda methods: Door(methods, access))
    try:
        bound = _bind(server, listen, None if tls is None else _credentials(tls))
        await server.start()
        yield bound
    finally:
        await server.stop(stop_within_s())


def _options() -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # two daemons on one port would take turns unnoticed
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.server_handshake_timeout_ms", round(HANDSHAKE_TIMEOUT_S * 1000)),
        ("grpc.max_connection_idle_ms", round(IDLE_S * 1000)),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", round(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.http2.ping_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),  # the line above alone leaves it at a minute
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", round(CLIENT_PINGS_S * 1000)),
    ]


def _credentials(tls: Certificates) -> grpc.ServerCredentials:
    """Make credentials that ask for the latest certificates whenever somebody connects; TLS 1.2 or newer."""
    given = tls.current()

    def latest() -> grpc.ServerCertificateConfiguration | None:  # called by threads of gRPC
        nonlocal given
        if (now := tls.current()) is given:
            return None  # as before
        given = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        latest,  # type: ignore[arg-type]  # it may give None, as its documentation says
        require_client_authentication=tls.files.ca_file is not None,
    )


def _configuration(tls: Tls) -> grpc.ServerCertificateConfiguration:
    chain, key, authorities = tls.contents
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authorities or None)


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    address = parse_address(listen)

    def add_port() -> int:
        return server.add_insecure_port(listen) if credentials is None else server.add_secure_port(listen, credentials)

    if isinstance(address, Tcp) and address.port == 0:
        return str(Tcp(address.host, add_port()))
    open_socket("grpc", listen).close()  # gRPC's own error does not say what is wrong
    if isinstance(address, Unix):
        Path(address.path).unlink(missing_ok=True)  # gRPC makes the socket file itself
    try:
        add_port()
    except RuntimeError as error:
        raise cannot_listen("grpc", listen, str(error)) from None
    return str(address)
