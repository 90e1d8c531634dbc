"""All metrics in one place. Label values come from declarations and fixed sets only, so their number is bounded.

What is read only when somebody asks for it is in collectors.py.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from walnatsd import __version__
from walnatsd.observe.collectors import ActorReading, Actors, InNats
from walnatsd.observe.histogram import Histogram, Histograms

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each series, for nobody

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43200, 86400)


class Metrics:
    """The metrics of one daemon."""

    def __init__(self) -> None:  # noqa: PLR0915 - a list of metrics, nothing happens here
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("walnatsd_build", "The version of walnatsd.", registry=registry).info({"version": __version__})
        self.ready = Gauge("walnatsd_ready", "1 while /readyz answers 200.", registry=registry)
        self.tasks = Gauge(
            "walnatsd_tasks",
            "Tasks of the event loop. It follows what is in flight; a number that only grows is a leak.",
            registry=registry,
        )
        self._emits = Counter(
            "walnatsd_emits",
            "Emits answered, by outcome: stored, scheduled, duplicate, spooled or the reason of the refusal.",
            ["event", "outcome"],
            registry=registry,
        )
        self._emit_seconds = Histograms(
            "walnatsd_emit_duration_seconds",
            "Time from an emit's arrival to its answer.",
            ["event", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._calls = Counter(
            "walnatsd_calls",
            "Calls ended, by outcome: answered or the reason of the refusal.",
            ["event", "outcome"],
            registry=registry,
        )
        self._call_seconds = Histograms(
            "walnatsd_call_duration_seconds",
            "Time from a call's arrival to its end, storing and waiting.",
            ["event", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._due = Counter(
            "walnatsd_due",
            "Delayed emits and ticks of clocks that came due, by outcome: stored, duplicate or the reason for which they go on waiting.",
            ["event", "outcome"],
            registry=registry,
        )
        self.due_waiting = Gauge(
            "walnatsd_due_waiting_messages",
            "Delayed emits and ticks that are due and not stored in their event's stream, over all sidecars.",
            registry=registry,
        )
        self._due_lateness_seconds = Histograms(
            "walnatsd_due_lateness_seconds",
            "Time from when a delayed emit or a tick was due to its being stored in the event's stream.",
            ["event"],
            buckets=_LONG_SECONDS,
            registry=registry,
        )
        self.watchers = Gauge("walnatsd_watchers", "Watchers of live feeds in this sidecar.", registry=registry)
        self.watchers_dropped = Counter(
            "walnatsd_watchers_dropped", "Watchers that were dropped because they did not keep up.", registry=registry
        )
        self._attempts = Counter(
            "walnatsd_attempts",
            "Attempts by outcome: acknowledged, failed, rejected, unavailable, gone, handed-back.",
            ["event", "actor", "outcome"],
            registry=registry,
        )
        self._attempt_seconds = Histograms(
            "walnatsd_attempt_duration_seconds",
            "Time from the start of an attempt to the actor's answer.",
            ["event", "actor", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._acknowledged_seconds = Histograms(
            "walnatsd_stored_to_acknowledged_seconds",
            "Time from the storing of a message to its confirmed ack.",
            ["event", "actor"],
            buckets=_LONG_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "walnatsd_deliveries_in_flight",
            "Deliveries that this sidecar holds and has not settled.",
            ["event", "actor"],
            registry=registry,
        )
        self._retries = Counter(
            "walnatsd_retries",
            "Messages handed back to be tried again, by whether the attempt counts.",
            ["event", "actor", "counts"],
            registry=registry,
        )
        self._parked = Counter(
            "walnatsd_parked",
            "Messages parked because they must wait long; they occupy nobody meanwhile.",
            ["event", "actor"],
            registry=registry,
        )
        self._park_failures = Counter(
            "walnatsd_park_failures",
            "Messages that could not be parked and wait in their consumer, where they count against max_ack_pending.",
            ["event", "actor"],
            registry=registry,
        )
        self._skipped = Counter(
            "walnatsd_skipped",
            "Messages acknowledged unseen, by the option that says so: filter or match_time.",
            ["event", "actor", "option"],
            registry=registry,
        )
        self._answers = Counter(
            "walnatsd_answers",
            "Answers to requests: sent, refused (a reply subject outside nats.reply_prefixes), too-large, not-connected.",
            ["event", "actor", "result"],
            registry=registry,
        )
        self._dead_letters = Counter(
            "walnatsd_dead_letters", "Messages given up, by cause.", ["event", "actor", "cause"], registry=registry
        )
        self._dead_letter_failures = Counter(
            "walnatsd_dead_letter_failures",
            "Dead letters that could not be stored; their messages keep waiting.",
            ["event", "actor"],
            registry=registry,
        )
        self.dead_letter_replays = Counter(
            "walnatsd_dead_letter_replays", "Dead letters handed to their actors again.", registry=registry
        )
        self._max_deliveries = Counter(
            "walnatsd_max_deliveries",
            "Messages that the server gave up, for somebody limited the deliveries of the consumer; they were rescued.",
            ["event", "actor"],
            registry=registry,
        )
        self._actors = Actors()
        registry.register(self._actors)
        self.in_nats = InNats(time.time)
        registry.register(self.in_nats)
        self.slots_free = Gauge(
            "walnatsd_slots_free", "Slots of the sidecar (max_jobs) that nobody has taken.", registry=registry
        )
        self.slots_waiting = Gauge(
            "walnatsd_slots_waiting", "Messages and batches that wait for a slot of the sidecar.", registry=registry
        )
        self._listeners = Gauge(
            "walnatsd_listeners",
            "Sessions of the gRPC stream that serve the actor in this sidecar.",
            ["event", "actor"],
            registry=registry,
        )
        self._late_results = Counter(
            "walnatsd_late_results",
            "Results of listeners that nobody waited for: they came late, twice or for an unknown delivery.",
            ["event", "actor"],
            registry=registry,
        )
        self._order_reigns = Counter(
            "walnatsd_order_reigns",
            "How often this sidecar began to serve an ordered actor.",
            ["event", "actor"],
            registry=registry,
        )
        self._order_awaited = Gauge(
            "walnatsd_order_awaited_messages",
            "Unsettled messages of an ordered actor that others hold; while there are any, this sidecar starts nothing.",
            ["event", "actor"],
            registry=registry,
        )
        self._dropped = Counter(
            "walnatsd_dropped",
            "Messages that a stream let go before the actor settled them: beyond a limit, too old, or deleted by somebody; "
            "by whether they were waiting or handed-over. Every sidecar counts all of them.",
            ["event", "actor", "state"],
            registry=registry,
        )
        self._drift = Gauge(
            "walnatsd_drift",
            "Declared keys that differ in NATS and were not written.",
            ["kind", "event", "actor"],
            registry=registry,
        )
        self._orphans = Gauge(
            "walnatsd_orphans",
            "Consumers of the event that are not declared here and that nobody serves; they hold messages back.",
            ["event"],
            registry=registry,
        )
        self.spool_messages = Gauge(
            "walnatsd_spool_messages", "Messages in the spool that wait to be forwarded.", registry=registry
        )
        self.spool_bytes = Gauge(
            "walnatsd_spool_bytes", "What the spool holds of spool.max_bytes, set aside or not.", registry=registry
        )
        self.spool_oldest = Gauge(
            "walnatsd_spool_oldest_seconds", "Age of the oldest message in the spool; 0 without one.", registry=registry
        )
        self.spool_set_aside = Gauge(
            "walnatsd_spool_set_aside_messages",
            "Messages in the spool that JetStream refuses for good; they wait for somebody to decide.",
            registry=registry,
        )
        self._spool_forwarded = Counter(
            "walnatsd_spool_forwarded",
            "Messages forwarded from the spool, by outcome: stored, duplicate, scheduled or set-aside.",
            ["event", "outcome"],
            registry=registry,
        )
        self.spool_write_failures = Counter(
            "walnatsd_spool_write_failures", "Writes that the disk of the spool did not take.", registry=registry
        )
        self._spans = Counter(
            "walnatsd_spans",
            "Spans by what became of them: exported, failed (the endpoint did not take them) or dropped (the queue was full).",
            ["outcome"],
            registry=registry,
        )
        self._statsd_packets = Counter(
            "walnatsd_statsd_packets", "Packets to StatsD: sent or dropped.", ["outcome"], registry=registry
        )
        self.statsd_durations_dropped = Counter(
            "walnatsd_statsd_durations_dropped",
            "Durations that were not sent to StatsD because there were too many at once; counts always are.",
            registry=registry,
        )
        self._sentry_reports = Counter(
            "walnatsd_sentry_reports",
            "Failures by what became of their report to Sentry: reported, tolerated (too few in a row), repeated (reported a short "
            "time ago), lost (Sentry did not take what was reported).",
            ["outcome"],
            registry=registry,
        )
        self.nats_connected = Gauge("walnatsd_nats_connected", "1 while NATS is connected.", registry=registry)
        self.nats_reconnects = Counter("walnatsd_nats_reconnects", "Reconnects to NATS.", registry=registry)
        self.nats_denied = Counter(
            "walnatsd_nats_denied",
            "Times that NATS did not let this user publish or subscribe; the log says to what.",
            registry=registry,
        )
        self._connections_cut = Counter(
            "walnatsd_connections_cut",
            "HTTP connections that were broken off: too_many of them, or a caller that took too long to send its head or "
            "body, or left its answer unread.",
            ["address", "why"],
            registry=registry,
        )
        self._access_refused = Counter(
            "walnatsd_access_refused",
            "Calls refused for want of a token (TOKEN) or of a scope (SCOPE), over gRPC, HTTP and on the admin address.",
            ["reason"],
            registry=registry,
        )
        self._certificate_not_after = Gauge(
            "walnatsd_certificate_not_after_timestamp_seconds",
            "Until when the certificate in use is valid: of grpc, http, admin (as a server) and nats (as a client).",
            ["part"],
            registry=registry,
        )
        self._certificate_stale = Gauge(
            "walnatsd_certificate_stale",
            "1 while the files of a certificate can't be used as they are now, and former ones are.",
            ["part"],
            registry=registry,
        )
        # labels() takes a lock and builds a key on every call; the children are looked up once
        self.connections_cut: Callable[[str, str], Counter] = cache(self._connections_cut.labels)
        self.access_refused: Callable[[str], Counter] = cache(self._access_refused.labels)
        self.emits: Callable[[str, str], Counter] = cache(self._emits.labels)
        self.emit_seconds: Callable[[str, str], Histogram] = self._emit_seconds.labels
        self.calls: Callable[[str, str], Counter] = cache(self._calls.labels)
        self.call_seconds: Callable[[str, str], Histogram] = self._call_seconds.labels
        self.due: Callable[[str, str], Counter] = cache(self._due.labels)
        self.due_lateness_seconds: Callable[[str], Histogram] = self._due_lateness_seconds.labels
        self.attempts: Callable[[str, str, str], Counter] = cache(self._attempts.labels)
        self.attempt_seconds: Callable[[str, str, str], Histogram] = self._attempt_seconds.labels
        self.acknowledged_seconds: Callable[[str, str], Histogram] = self._acknowledged_seconds.labels
        self.in_flight: Callable[[str, str], Gauge] = cache(self._in_flight.labels)
        self.retries: Callable[[str, str, str], Counter] = cache(self._retries.labels)
        self.parked: Callable[[str, str], Counter] = cache(self._parked.labels)
        self.park_failures: Callable[[str, str], Counter] = cache(self._park_failures.labels)
        self.skipped: Callable[[str, str, str], Counter] = cache(self._skipped.labels)
        self.answers: Callable[[str, str, str], Counter] = cache(self._answers.labels)
        self.dead_letters: Callable[[str, str, str], Counter] = cache(self._dead_letters.labels)
        self.dead_letter_failures: Callable[[str, str], Counter] = cache(self._dead_letter_failures.labels)
        self.max_deliveries: Callable[[str, str], Counter] = cache(self._max_deliveries.labels)
        self.dropped: Callable[[str, str, str], Counter] = cache(self._dropped.labels)
        self.orphans: Callable[[str], Gauge] = cache(self._orphans.labels)
        self.listeners: Callable[[str, str], Gauge] = cache(self._listeners.labels)
        self.late_results: Callable[[str, str], Counter] = cache(self._late_results.labels)
        self.order_reigns: Callable[[str, str], Counter] = cache(self._order_reigns.labels)
        self.order_awaited: Callable[[str, str], Gauge] = cache(self._order_awaited.labels)
        self.drift: Callable[[str, str, str], Gauge] = cache(self._drift.labels)
        self.spool_forwarded: Callable[[str, str], Counter] = cache(self._spool_forwarded.labels)
        self.spans: Callable[[str], Counter] = cache(self._spans.labels)
        self.statsd_packets: Callable[[str], Counter] = cache(self._statsd_packets.labels)
        self.sentry_reports: Callable[[str], Counter] = cache(self._sentry_reports.labels)

    @contextlib.contextmanager
    def watch(self, event: str, actor: str, read: Callable[[], ActorReading]) -> Iterator[None]:
        """Show how an actor fares while the body runs; `read` is called when somebody asks for the metrics."""
        self._actors.read[event, actor] = read
        try:
            yield
        finally:
            if self._actors.read.get((event, actor)) is read:  # it may have been started anew meanwhile
                del self._actors.read[event, actor]

    @property
    def emit_histograms(self) -> Histograms:
        """Durations of emits, by event and outcome."""
        return self._emit_seconds

    @property
    def attempt_histograms(self) -> Histograms:
        """Durations of attempts, by event, actor and outcome."""
        return self._attempt_seconds

    def watch_certificate(self, part: str, not_after: Callable[[], float | None], is_stale: Callable[[], bool]) -> None:
        """Show until when a part's certificate is valid, and whether its files can't be used as they are."""
        if not_after() is not None:
            self._certificate_not_after.labels(part).set_function(lambda: not_after() or 0)
        self._certificate_stale.labels(part).set_function(is_stale)

    def render(self) -> bytes:
        """Write all metrics in the Prometheus text format."""
        return generate_latest(self._registry)
