"""Reports to Sentry. Imported only where `sentry` is configured, for it needs the extra."""

import asyncio
import contextlib
import datetime as dt
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import sentry_sdk
import structlog
from sentry_sdk.transport import HttpTransport

from walnatsd import __version__
from walnatsd.model.actor import Actor
from walnatsd.model.attempt import Attempt
from walnatsd.model.message import Message
from walnatsd.model.retry import DeadLetter, Decision
from walnatsd.model.trace_context import ids_of
from walnatsd.observe.alarm import Alarm, Ruling
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.sparingly import Sparingly

SAY_AGAIN_S = 60.0

_log = structlog.get_logger("walnatsd.sentry")


@contextlib.asynccontextmanager
async def open_sentry(
    dsn: str, *, service: str, metrics: Metrics, stop_within_s: Callable[[], float]
) -> AsyncIterator["Sentry"]:
    """Report while the body runs, then send what is left, for `stop_within_s` seconds at most.

    Args:
        dsn: Where to; that it is one was seen when the config was loaded.
        service: The service's name.
        metrics: Where reports are counted.
        stop_within_s: Gives how long the last reports may take.
    """
    address = urlsplit(dsn)
    lost = _Lost(metrics, f"{address.hostname}:{address.port}" if address.port else str(address.hostname))

    class Transport(HttpTransport):
        """Tells of reports that are lost; the SDK makes its transport itself, of a class."""

        def on_dropped_event(self, reason: str) -> None:
            lost.note(reason)

    # a client of its own: nothing of the process is hooked into, and nothing is gathered besides what is reported here
    client = sentry_sdk.Client(
        dsn=dsn,
        transport=Transport,
        default_integrations=False,
        auto_enabling_integrations=False,
        release=os.environ.get("SENTRY_RELEASE") or f"walnatsd@{__version__}",
        include_local_variables=False,
        max_breadcrumbs=0,
        send_client_reports=False,
        auto_session_tracking=False,
    )
    try:
        yield Sentry(client, service, metrics, Alarm(time.monotonic))
    finally:
        await asyncio.to_thread(client.close, stop_within_s())


class Sentry:
    """Reports failures of attempts, and dead letters. Payloads are in no report."""

    def __init__(self, client: Any, service: str, metrics: Metrics, alarm: Alarm) -> None:
        self._client = client
        self._service = service
        self._metrics = metrics
        self._alarm = alarm

    def succeeded(self, actor: Actor) -> None:
        """Take note of an attempt that was acknowledged."""
        self._alarm.succeeded((actor.event, actor.name))

    def failed(self, actor: Actor, message: Message, attempt: Attempt, decision: Decision) -> None:
        """Report an attempt that failed, or what became a dead letter by it, where it is worth it."""
        outcome, name = attempt.outcome, (actor.event, actor.name)
        kind = f"{outcome.verdict.value} {outcome.status}" if outcome.status is not None else outcome.verdict.value
        if isinstance(decision, DeadLetter):
            kind = f"dead letter: {kind}"
            ruling = self._alarm.given_up(name, kind)
        else:
            ruling = self._alarm.failed(name, kind, attempt=attempt.number)
        if self._counted(ruling):
            facts = {
                "attempt": attempt.number,
                "delivered_at": _instant(attempt.at),
                "duration_ms": round(attempt.duration_s * 1000, 2),
                "status": outcome.status,
                "decision": type(decision).__name__,
            }
            self._report(actor, message, kind, outcome.reason, facts)

    def given_up(self, actor: Actor, message: Message, reason: str) -> None:
        """Report a message that became a dead letter without an attempt."""
        kind = "dead letter: without an attempt"
        if self._counted(self._alarm.given_up((actor.event, actor.name), kind)):
            self._report(actor, message, kind, reason, {"decision": DeadLetter.__name__})

    def _counted(self, ruling: Ruling) -> bool:
        self._metrics.sentry_reports(ruling.value).inc()
        return ruling is Ruling.REPORTED

    def _report(self, actor: Actor, message: Message, kind: str, reason: str, facts: dict[str, Any]) -> None:
        event: dict[str, Any] = {
            "level": "error",
            "logger": "walnatsd.dispatch",
            "platform": "other",
            "server_name": self._service,
            "exception": {"values": [{"type": kind, "value": reason}]},
            "fingerprint": [actor.event, actor.name, kind],
            # tags and data have the names that walnats' SentryMiddleware gives them, and some besides
            "tags": {"actor": actor.name, "event": actor.event, "service": self._service},
            "extra": {
                "stream_seq_id": message.sequence,
                "stream": message.stream,
                "stored_at": _instant(message.stored_at),
                "uid": message.uid,
                "trace_id": message.trace_id,
                **facts,
            },
        }
        if (ids := ids_of(message.headers)) is not None:
            trace, span = ids
            event["contexts"] = {"trace": {"type": "trace", "trace_id": trace, "span_id": span}}
        self._client.capture_event(event)


class _Lost:
    """Counts what did not reach Sentry, and says so once a minute."""

    def __init__(self, metrics: Metrics, address: str) -> None:
        self._metrics = metrics
        self._address = address
        self._complaints = Sparingly(SAY_AGAIN_S, time.monotonic)

    def note(self, reason: str) -> None:
        self._metrics.sentry_reports("lost").inc()
        if self._complaints.may_say():
            _log.warning(
                "reports don't reach Sentry; they are lost, nothing else is", address=self._address, why=reason
            )


def _instant(epoch_s: float) -> str:
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).isoformat(timespec="milliseconds")
