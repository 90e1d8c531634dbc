"""The whole config file as types. Every default and every option's documentation stands here or in `model`."""

import socket
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from walnatsd.config.listen import Address, Tcp, parse_address
from walnatsd.model.actor import Actor
from walnatsd.model.clock import Clock
from walnatsd.model.declared import Declared, InputFile, NoBoolean, PositiveInt, RelativePath, Secret
from walnatsd.model.event import Event
from walnatsd.model.scope import Scope
from walnatsd.model.units import PositiveDuration, Size


class Service(Declared):
    """The service that this sidecar stands beside."""

    name: Annotated[str, Field(min_length=1)] = Field(default_factory=socket.gethostname)
    """Its name; the default of ce-source, and its name on maps and in documents. Default: the host name."""


class NatsTls(Declared):
    """TLS towards NATS."""

    ca_file: InputFile | None = None
    """Certificates to trust instead of the system's."""
    cert_file: InputFile | None = None
    """Client certificate."""
    key_file: InputFile | None = None
    """Key of the client certificate."""
    hostname: str | None = None
    """Name to expect in the server's certificate instead of the one in the address."""


class Embedded(Declared):
    """A nats-server that walnatsd starts and supervises itself."""

    data_dir: Annotated[RelativePath, Field(validate_default=True)] = "./walnatsd-data"
    """Where it stores its streams."""
    port: Annotated[int, Field(ge=1, le=65535), NoBoolean] = 4222
    """Where it listens, on 127.0.0.1."""


_BOOL = TypeAdapter(bool)


def _spell_out(embedded: object) -> object:
    """Turn `embedded: true` into the default options; the environment says true in many ways."""
    if embedded is None or isinstance(embedded, (Embedded, Mapping)):
        return embedded
    try:
        return {} if _BOOL.validate_python(embedded) else None
    except ValidationError:
        raise ValueError("write true, false or {data_dir: PATH, port: NUMBER}") from None


_WEB_SOCKETS = {"ws", "wss"}


def _check_server(server: str) -> str:
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        fits = parts.scheme in {"nats", "tls"} | _WEB_SOCKETS and bool(parts.hostname) and parts.port != 0
        fits = fits and (parts.scheme in _WEB_SOCKETS or parts.path in {"", "/"})
    except ValueError:
        fits = False
    if not fits or any(character <= " " for character in server):
        raise ValueError("write an address like nats://127.0.0.1:4222, or tls://, ws://, wss://")
    return server


class Manage(Declared):
    """What registration may do to streams and consumers."""

    create: bool = True
    """Create what is missing."""
    update: bool = True
    """Update what differs."""


class Nats(Declared):
    """The connection to NATS."""

    servers: Annotated[tuple[Annotated[str, AfterValidator(_check_server)], ...], Field(min_length=1)] = (
        "nats://127.0.0.1:4222",
    )
    """Servers of one NATS system; any of them will do."""
    embedded: Annotated[
        Embedded | None,
        BeforeValidator(_spell_out),
        WithJsonSchema({"anyOf": [{"type": "boolean"}, Embedded.model_json_schema()]}),
    ] = None
    """Start and supervise a nats-server; `servers` is not used then."""
    credentials_file: InputFile | None = None
    """A .creds file with a JWT and an NKey seed."""
    nkey_seed_file: InputFile | None = None
    """A file with an NKey seed."""
    token: Secret | None = None
    """A token."""
    user: str | None = None
    """A user name, with `password`."""
    password: Secret | None = None
    """The password of `user`."""
    tls: NatsTls | None = None
    """TLS with certificates of your own; tls:// in `servers` is enough where the system's certificates will do."""
    domain: str | None = None
    """JetStream domain, for leaf nodes."""
    inbox_prefix: str = "_INBOX"
    """Prefix of the subjects that replies come back on; for accounts whose permissions name one."""
    reply_prefixes: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.$")], ...] = ("_INBOX.",)
    """Prefixes of the subjects that a response may be sent to."""
    manage: Manage = Manage()
    """What registration may do."""
    system_replicas: Annotated[int, Field(ge=1, le=5), NoBoolean] = 1
    """Replicas of walnatsd's own streams."""

    @property
    def reached(self) -> "Nats":
        """These settings, pointed to the embedded server where there is one."""
        if self.embedded is None:
            return self
        return self.model_copy(update={"servers": (f"nats://127.0.0.1:{self.embedded.port}",)})

    @model_validator(mode="after")
    def _one_transport(self) -> "Nats":
        schemes = [urlsplit(server).scheme if "://" in server else "nats" for server in self.servers]
        if len({scheme in _WEB_SOCKETS for scheme in schemes}) > 1:
            raise ValueError("servers are reached over WebSockets (ws://, wss://) or without, not both at once")
        return self

    @model_validator(mode="after")
    def _one_identity(self) -> "Nats":
        given = [
            name
            for name, value in (
                ("credentials_file", self.credentials_file),
                ("nkey_seed_file", self.nkey_seed_file),
                ("token", self.token),
                ("user", self.user),
            )
            if value is not None
        ]
        if len(given) > 1:
            raise ValueError(f"give one identity, not {' and '.join(given)}")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        return self


class ServerTls(Declared):
    """TLS of a listening address."""

    cert_file: InputFile
    """Certificate chain."""
    key_file: InputFile
    """Its key."""
    client_ca_file: InputFile | None = None
    """Callers need a certificate of this authority."""


class Grpc(Declared):
    """The address of the gRPC services."""

    listen: Address = "127.0.0.1:7520"
    """host:port or unix:/path."""
    tls: ServerTls | None = None
    """TLS."""
    allowed_hosts: tuple[str, ...] = ()
    """Refused, for gRPC's library does not tell which name was called: say who may call with `auth.tokens` or `tls`."""


class Http(Declared):
    """The address of the HTTP interface."""

    listen: Address = "127.0.0.1:7521"
    """host:port or unix:/path."""
    tls: ServerTls | None = None
    """TLS."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that a call may be made to, besides loopback ones."""


class Admin(Declared):
    """The address of administration, health and metrics."""

    listen: Address = "127.0.0.1:7522"
    """host:port or unix:/path."""
    tls: ServerTls | None = None
    """TLS."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that a call may be made to, besides loopback ones."""


class Monitoring(Declared):
    """An address that answers only /livez, /readyz and /metrics, for probes and scraping from outside."""

    listen: Address
    """host:port or unix:/path."""


class Token(Declared):
    """A token and what it opens."""

    token: Secret
    """The token: visible ASCII characters, no spaces; best 32 random ones or more."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    """What it opens. emit: emitting, requests, delayed emits; act: serving actors and watching events; admin: administration
    and its metrics. Registering events takes emit or act."""


class Auth(Declared):
    """Who may call."""

    tokens: tuple[Token, ...] = ()
    """Bearer tokens for the gRPC, HTTP and admin addresses, on loopback and Unix sockets too; several of one scope may be valid,
    and a reload reads them again. None is needed where this is empty."""
    allow_insecure_listen: bool = False
    """Allow gRPC, HTTP and admin addresses that other machines can reach, where neither a token nor a client certificate is
    asked for."""


class Emit(Declared):
    """Emitting."""

    timeout: PositiveDuration = 15.0
    """How long an emit may be retried before the caller is told that NATS is not reachable."""
    max_in_flight: PositiveInt = 10_000
    """Emits waiting for JetStream at once; more are refused as BUSY."""


class Spool(Declared):
    """The outbox on disk for outages of NATS."""

    path: RelativePath
    """The file."""
    max_bytes: Size = 1 << 30
    """Emits are refused beyond this."""
    max_age: PositiveDuration = 86400.0
    """Emits are refused while the oldest is older than this."""


class DeadLetters(Declared):
    """The dead-letter stream."""

    age: PositiveDuration = 30 * 86400.0
    """How long a dead letter is kept."""
    bytes: Size = 10 << 30
    """How large the stream may grow; when full, messages wait instead of becoming dead letters."""
    pause_actor_after: PositiveInt | None = 100
    """That many permanent rejections in a row pause the actor; null: never."""


class Log(Declared):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe that is written."""
    format: Literal["auto", "text", "json"] = "auto"
    """auto: text on a terminal, JSON elsewhere."""


def _check_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or any(character <= " " for character in endpoint):
        raise ValueError(
            "write an address like http://127.0.0.1:4318 (OTLP over HTTP) or http://127.0.0.1:4317 (over gRPC)"
        )
    return endpoint


class Otel(Declared):
    """OpenTelemetry traces. Needs the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(_check_endpoint)]
    """Where spans go to, over OTLP: gRPC on port 4317, else HTTP, unless OTEL_EXPORTER_OTLP_PROTOCOL says so."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the traces that begin here and are kept; of others, who began them decided."""


class Sentry(Declared):
    """Reports of failures to Sentry. Needs the extra `sentry`."""

    dsn: Secret
    """Where to report: a DSN, like https://KEY@HOST/PROJECT."""


def _check_udp(address: str) -> str:
    try:
        parsed = parse_address(address)
    except ValueError:
        parsed = None
    if not isinstance(parsed, Tcp) or not parsed.port or any(character <= " " for character in address):
        raise ValueError("write an address like 127.0.0.1:8125; figures are sent there over UDP")
    return address


class Statsd(Declared):
    """Figures over StatsD, as the walnats library sends them."""

    address: Annotated[str, AfterValidator(_check_udp)]
    """host:port of who listens, over UDP."""

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The same in two parts."""
        parsed = parse_address(self.address)
        assert isinstance(parsed, Tcp)
        return parsed.host, parsed.port


class Config(Declared):
    """The config file."""

    service: Service = Service()
    """The service that this sidecar stands beside."""
    nats: Nats = Nats()
    """The connection to NATS."""
    grpc: Grpc = Grpc()
    """The gRPC address."""
    http: Http = Http()
    """The HTTP address."""
    admin: Admin = Admin()
    """The administration address."""
    monitoring: Monitoring | None = None
    """An address for probes and scraping from outside."""
    auth: Auth = Auth()
    """Who may call."""
    emit: Emit = Emit()
    """Emitting."""
    spool: Spool | None = None
    """The outbox on disk; off by default."""
    dead_letters: DeadLetters = DeadLetters()
    """The dead-letter stream."""
    log: Log = Log()
    """The log."""
    otel: Otel | None = None
    """OpenTelemetry traces."""
    sentry: Sentry | None = None
    """Sentry."""
    statsd: Statsd | None = None
    """StatsD."""
    max_jobs: PositiveInt = 256
    """Attempts in flight at once in the whole sidecar."""
    shutdown_timeout: PositiveDuration = 40.0
    """How long a graceful stop may take."""
    events: tuple[Event, ...] = ()
    """The declared events."""
    actors: tuple[Actor, ...] = ()
    """The declared actors."""
    clocks: tuple[Clock, ...] = ()
    """Periodic events."""
