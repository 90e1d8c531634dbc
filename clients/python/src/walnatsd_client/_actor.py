"""Declarations of actors."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from walnatsd_client._event import Event
from walnatsd_client._execution import ExecuteIn, where

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again after a failed attempt.

    Raises:
        ValueError: `max_attempts` and `unlimited` contradict each other.
    """

    delays: tuple[float, ...] = ()
    """The wait after the first, second, … attempt, in seconds; the last one goes on. Empty for the default:
    0.5, 1, 2, 4, 8, 16, 30, 60."""
    jitter: float | None = None
    """Each wait is multiplied by a factor drawn from 1 ± jitter; 0 to 1. Default 0.2."""
    max_attempts: int | None = None
    """Attempts before the message becomes a dead letter. Default 20."""
    unlimited: bool = False
    """Retry for ever."""

    def __post_init__(self) -> None:
        if self.unlimited and self.max_attempts is not None:
            raise ValueError("give either max_attempts or unlimited")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Bounds the starts of attempts, in each sidecar on its own."""

    jobs: int
    """How many."""
    period: float
    """In any sliding period of this length, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchTime:
    """Which ticks of a clock event to handle, as written in the payload. What is empty matches all."""

    year: tuple[int, ...] = ()
    """Years."""
    month: tuple[int, ...] = ()
    """Months, 1 to 12."""
    day: tuple[int, ...] = ()
    """Days of the month, 1 to 31."""
    hour: tuple[int, ...] = ()
    """Hours, 0 to 23."""
    minute: tuple[int, ...] = ()
    """Minutes, 0 to 59."""


@dataclass(frozen=True, slots=True)
class OrderHeader:
    """The ordering key is a header of the message."""

    header: str
    """Its name, like `ce-partitionkey`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When the sidecar stops calling an actor that is not there. What is None has the default named here."""

    window: float | None = None
    """Length of the sliding window that the ratio is taken over, in seconds. Default 60."""
    min_attempts: int | None = None
    """Attempts in the window before the ratio counts. Default 10."""
    failure_ratio: float | None = None
    """Share of unavailable answers that opens it, above 0 and at most 1. Default 0.7."""
    consecutive: int | None = None
    """Unavailable answers in a row that open it. Default 5."""
    open_for: float | None = None
    """How long it stays open the first time, in seconds. Default 30."""
    max_open_for: float | None = None
    """How long it stays open at most, in seconds. Default 300."""


@dataclass(frozen=True)  # no slots: `Actor[int](…)` would fail in Python 3.11
class Actor(Generic[T]):
    """A named subscriber to one event, and the function that handles its messages.

    ```python
    PRINT = Actor("print", COUNT, print, url="http://127.0.0.1:8000/")
    ```

    What is None is not declared: the value in NATS stays, at first the default named here. Every message is handled
    at least once, so a handler must bear to see one twice.
    """

    name: str
    """Unique within the event, like `send-email`. It names the consumer in NATS, so it can't be changed later."""
    event: Event[T]
    """The event to act on."""
    handler: Callable[[T], object]
    """Called with every message. Async, or sync and then run in a thread. Returning means done; `Reject` gives the
    message up, `Retry` and every other exception ask for another attempt."""
    url: str | None = field(default=None, kw_only=True)
    """The webhook where `asgi_app` serves this actor, as the sidecar reaches it. None: served over gRPC."""
    description: str | None = field(default=None, kw_only=True)
    """What the actor does, for people."""
    start: Literal["retained", "new"] | None = field(default=None, kw_only=True)
    """What a new actor sees: what others have not yet acknowledged, or only what comes after it. Fixed at creation, at
    first `retained`."""
    ack_wait: float | None = field(default=None, kw_only=True)
    """How long NATS waits for a sign of life before it hands the message to another sidecar, in seconds. At first
    16."""
    max_ack_pending: int | None = field(default=None, kw_only=True)
    """How many messages may be unsettled at once over all sidecars. At first 1000."""
    max_jobs: int | None = field(default=None, kw_only=True)
    """Attempts in flight at once in one sidecar. Default 16."""
    job_timeout: float | None = field(default=None, kw_only=True)
    """How long the sidecar waits for one attempt, in seconds. Default 32."""
    pulse: bool | None = field(default=None, kw_only=True)
    """Keep telling NATS that the job is in progress. Default true; false needs `job_timeout` below `ack_wait`."""
    priority: Literal["high", "normal", "low"] | None = field(default=None, kw_only=True)
    """Who gets the next slot when the whole sidecar is at its limit. Default `normal`."""
    retry: RetryPolicy | None = field(default=None, kw_only=True)
    """When to try again."""
    rate_limit: RateLimit | None = field(default=None, kw_only=True)
    """Bounds the starts of attempts. Default: no bound."""
    match_time: MatchTime | None = field(default=None, kw_only=True)
    """Which ticks of a clock event to handle. Default: all."""
    filter: str | None = field(default=None, kw_only=True)
    """CEL over `data`, `ce` and `headers`, like `data.status == "sent"`. A message that doesn't match is acknowledged
    unseen. Default: all match."""
    order_by: str | OrderHeader | None = field(default=None, kw_only=True)
    """JSON pointer like `/parcel_id`, or a header. Messages with the same key are handled one at a time, in stream
    order."""
    wait_for: str | None = field(default=None, kw_only=True)
    """URL; messages are pulled once it answers 2xx. It is also the breaker's probe."""
    headers: Mapping[str, str] = field(default_factory=dict, kw_only=True, hash=False)
    """Headers of every webhook request; these win over the message's. Secrets belong in the sidecar's file."""
    breaker: Breaker | None = field(default=None, kw_only=True)
    """When to stop calling an actor that is not there."""
    responds: bool | None = field(default=None, kw_only=True)
    """What the handler returns answers requests. Default: true where the event is one `with_response`."""
    execute_in: ExecuteIn | None = field(default=None, kw_only=True)
    """Where the handler runs: `main` (on the loop), `thread`, or `process` (for work that needs a core; the handler and
    what it is given must be picklable). Default: `main` where it is async, else `thread`."""

    @functools.cached_property
    def _runs_in(self) -> ExecuteIn:
        """Where the handler runs, found out once and not for every message."""
        return where(self.handler, self.execute_in)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How messages are gathered. What is None has the default named here."""

    max_size: int | None = None
    """At most this many messages. Default 100."""
    max_bytes: int | None = None
    """At most this many bytes of payload. Default 1 MiB."""
    max_wait: float | None = None
    """Wait at most this long for more, in seconds. Default 0.05."""


@dataclass(frozen=True)  # no slots: `BatchActor[int](…)` would fail in Python 3.11
class BatchActor(Actor[list[T]]):
    """An actor that takes many messages at once, as a webhook.

    The handler returns None where all are done, or a list with None, `Reject` or `Retry` for each. Raising `Reject` or
    `Retry` is meant for all of them; a batch that is rejected comes again message by message.
    """

    event: Event[T]  # type: ignore[assignment]
    """The event to act on."""
    batch: Batch = field(default=Batch(), kw_only=True)
    """How messages are gathered."""
