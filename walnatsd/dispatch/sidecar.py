"""What the actors of one sidecar share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from walnatsd.broker.connection import Connection
from walnatsd.broker.dead_letter_stream import DeadLetterStream
from walnatsd.broker.dead_letters import DeadLetters
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.route import Route
from walnatsd.dispatch.pulse import Pulse
from walnatsd.dispatch.slots import Slots
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.reports import Reports

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import Tracing


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the actors of one sidecar share."""

    connection: Connection
    jetstream: JetStream
    route: Route
    dead_letters: DeadLetters
    dead_letter_stream: DeadLetterStream
    slots: Slots
    pulse: Pulse
    metrics: Metrics
    pause_after: int | None
    """Permanent rejections in a row that pause an actor."""
    reply_prefixes: tuple[str, ...]
    """Where answers to requests may go."""
    tracing: "Tracing | None" = None
    """Makes spans of deliveries; None where nothing is traced."""
    reports: Reports | None = None
    """Told of attempts; None where there is neither StatsD nor Sentry."""
