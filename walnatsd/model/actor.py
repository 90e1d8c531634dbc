"""An actor: a named subscriber to one event."""

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from walnatsd.model.addresses import why_forbidden
from walnatsd.model.declared import Declared, InputFile, NoBoolean, PositiveInt, Secret
from walnatsd.model.headers import check_configured_header, check_text
from walnatsd.model.names import ActorName, EventName, stream_name
from walnatsd.model.units import Duration, PositiveDuration, Size

_HOST = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?")
_LONGEST_HOST = 253


def check_url(url: str) -> str:
    """Return the URL if a webhook can be called there.

    Raises:
        ValueError: What is wrong with it, in words.
    """
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_fine:
        raise ValueError("write a URL like http://127.0.0.1:8000/send-email")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry a password; set headers: {Authorization: {env: NAME}}")
    if why := why_forbidden(parts.hostname):
        raise ValueError(why)
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("a URL has no white space or control characters")
    if not _is_host(parts.hostname, bracketed="[" in parts.netloc):
        raise ValueError(f"{parts.hostname[:100]!r} is no host name; write a URL like http://127.0.0.1:8000/send-email")
    return url


def _is_host(name: str, *, bracketed: bool) -> bool:
    """Whether it could be the name or the address of a machine; a name that can't be looked up is no outage."""
    if not bracketed:
        return len(name) <= _LONGEST_HOST and _HOST.fullmatch(name) is not None
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False


Url = Annotated[str, AfterValidator(check_url)]


class Retry(Declared):
    """When to try again after a failed attempt."""

    delays: Annotated[tuple[Duration, ...], Field(min_length=1)] = (0.5, 1, 2, 4, 8, 16, 30, 60)
    """The wait after the first, second, … attempt; the last one goes on."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Each wait is multiplied by a factor drawn from 1 ± jitter."""
    max_attempts: PositiveInt | None = 20
    """Attempts before the message becomes a dead letter; null: for ever."""


class RateLimit(Declared):
    """Bounds the starts of attempts in this sidecar."""

    jobs: PositiveInt
    """How many."""
    period: PositiveDuration
    """In any sliding period of this length."""


class MatchTime(Declared):
    """Which clock ticks to handle, as written in the payload."""

    year: tuple[int, ...] = ()
    """Years; empty for all."""
    month: tuple[Annotated[int, Field(ge=1, le=12), NoBoolean], ...] = ()
    """Months; empty for all."""
    day: tuple[Annotated[int, Field(ge=1, le=31), NoBoolean], ...] = ()
    """Days of the month; empty for all."""
    hour: tuple[Annotated[int, Field(ge=0, le=23), NoBoolean], ...] = ()
    """Hours; empty for all."""
    minute: tuple[Annotated[int, Field(ge=0, le=59), NoBoolean], ...] = ()
    """Minutes; empty for all."""


_JSON_POINTER = re.compile(r"(/([^/~]|~[01])*)+")  # RFC 6901 section 3, but the whole document is no key


class OrderHeader(Declared):
    """The ordering key is a header."""

    header: Annotated[str, Field(min_length=1)]
    """Name of the header in any case, like ce-partitionkey."""


class Batch(Declared):
    """Many messages in one request."""

    max_size: Annotated[int, Field(ge=1, le=1000), NoBoolean] = 100
    """At most this many messages."""
    max_bytes: Size = 1 << 20
    """At most this many bytes of payload."""
    max_wait: Duration = 0.05
    """Wait at most this long for more."""


class ActorTls(Declared):
    """TLS towards the actor."""

    ca_file: InputFile | None = None
    """Certificates to trust instead of the system's."""
    cert_file: InputFile | None = None
    """Client certificate."""
    key_file: InputFile | None = None
    """Key of the client certificate."""


class Breaker(Declared):
    """When to stop calling an actor that is not there."""

    window: PositiveDuration = 60
    """Length of the sliding window that the ratio is taken over."""
    min_attempts: PositiveInt = 10
    """Attempts in the window before the ratio counts."""
    failure_ratio: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of unavailable answers that opens it."""
    consecutive: PositiveInt = 5
    """Unavailable answers in a row that open it."""
    open_for: PositiveDuration = 30
    """How long it stays open the first time; doubled each time the probe fails."""
    max_open_for: PositiveDuration = 300
    """How long it stays open at most."""

    @model_validator(mode="after")
    def _longest_is_longest(self) -> "Breaker":
        if self.max_open_for < self.open_for:
            raise ValueError(f"max_open_for ({self.max_open_for:g}s) must not be below open_for ({self.open_for:g}s)")
        return self


HeaderName = Annotated[str, AfterValidator(check_configured_header)]
HeaderValue = Annotated[str, AfterValidator(check_text)]


class Actor(Declared):
    """An actor and the durable consumer behind it."""

    name: ActorName
    """Unique within the event. It names the consumer in NATS, so it can't be changed later."""
    event: EventName
    """The event to act on."""
    url: Url | None = None
    """The webhook. Absent: served over the gRPC stream."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """What the actor does, for people; shown as the consumer's description."""
    start: Literal["retained", "new"] = "retained"
    """What a new actor sees: what others have not yet acknowledged, or only what comes after it; fixed at creation."""
    ack_wait: Annotated[PositiveDuration, Field(ge=0.1)] = 16.0
    """How long NATS waits for a sign of life before it hands the message to another sidecar."""
    max_ack_pending: PositiveInt = 1000
    """How many messages may be unsettled at once over all sidecars."""
    max_jobs: PositiveInt = 16
    """Attempts in flight at once in this sidecar, for this actor."""
    job_timeout: PositiveDuration = 32.0
    """How long one attempt may take."""
    pulse: bool = True
    """Keep telling NATS that the job is in progress."""
    priority: Literal["high", "normal", "low"] = "normal"
    """Who gets the next slot when the sidecar's max_jobs is reached."""
    responds: bool = False
    """A 2xx body answers requests."""
    retry: Retry | None = Retry()
    """When to try again; null: the default delays, for ever."""
    rate_limit: RateLimit | None = None
    """Bounds the starts of attempts."""
    match_time: MatchTime | None = None
    """For clock events: which times to handle."""
    filter: str | None = None
    """CEL over data, ce and headers; messages that do not match are acknowledged unseen."""
    order_by: str | OrderHeader | None = None
    """JSON pointer or header; messages with the same key are handled one at a time, in stream order."""
    batch: Batch | None = None
    """Many messages in one request."""
    wait_for: Url | None = None
    """Pulling starts when this answers 2xx; it is also the breaker's probe."""
    headers: Annotated[dict[HeaderName, HeaderValue | Secret], Field(default_factory=dict)]
    """Headers of every request; these win over the message's."""
    signing_secrets: tuple[Secret, ...] = ()
    """Standard Webhooks secrets, newest first."""
    tls: ActorTls | None = None
    """TLS towards the actor."""
    breaker: Breaker = Breaker()
    """When to stop calling an actor that is not there."""

    @model_validator(mode="after")
    def _options_agree(self) -> "Actor":
        if not self.pulse and self.job_timeout >= self.ack_wait:
            raise ValueError(
                f"pulse: false needs job_timeout ({self.job_timeout:g}s) below ack_wait ({self.ack_wait:g}s), "
                "or NATS hands the message to another before the attempt ends"
            )
        if self.batch is not None and (self.order_by is not None or self.responds):
            raise ValueError("batch goes neither with order_by nor with responds")
        of_webhooks = {name: getattr(self, name) for name in ("headers", "signing_secrets", "tls", "batch")}
        if self.url is None and (given := [name for name, value in of_webhooks.items() if value]):
            raise ValueError(
                f"{', '.join(given)}: for webhooks only; without url the actor is served over the gRPC stream"
            )
        if self.batch and self.batch.max_size > 1 and self.rate_limit and self.rate_limit.jobs == 1:
            raise ValueError(
                "batch needs rate_limit.jobs of 2 at least: a batch that is rejected as a whole is sent again one by one"
            )
        if isinstance(self.order_by, str) and not _JSON_POINTER.fullmatch(self.order_by):
            raise ValueError("order_by is a JSON pointer like /parcel_id (RFC 6901), or {header: NAME}")
        return self

    @property
    def stream(self) -> str:
        """Name of the stream of the actor's event."""
        return stream_name(self.event)

    @property
    def retry_policy(self) -> Retry:
        """The retry policy, with `retry: null` spelled out."""
        return self.retry or Retry(max_attempts=None)
