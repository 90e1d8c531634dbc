"""Metrics that are read when somebody asks for them: how actors fare here, and what NATS knows of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from walnatsd.model.gate_state import GateState


class ActorReading(Protocol):
    """How an actor fares in this sidecar now."""

    @property
    def gate(self) -> GateState:
        """`open`, or why nothing starts."""

    @property
    def breaker(self) -> str:
        """`closed`, `open` or `half-open`."""

    @property
    def held_s(self) -> float:
        """Seconds for which the actor still wants a rest."""

    @property
    def window(self) -> int:
        """Attempts that may be in flight, as learned."""


class Actors(Collector):
    """What changes with time alone, like an open breaker, is read when asked for: it is right, and costs no message."""

    def __init__(self) -> None:
        self.read: dict[tuple[str, str], Callable[[], ActorReading]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read all actors."""
        labels = ["event", "actor"]
        gate = GaugeMetricFamily(
            "walnatsd_gate",
            "1 for the state of the actor's gate: open, or why nothing starts.",
            labels=[*labels, "state"],
        )
        breaker = GaugeMetricFamily(
            "walnatsd_breaker_open", "1 while the actor's breaker is open and nothing is pulled.", labels=labels
        )
        held = GaugeMetricFamily(
            "walnatsd_held_seconds",
            "Seconds that are left of what the actor asked for with Retry-After.",
            labels=labels,
        )
        window = GaugeMetricFamily(
            "walnatsd_window", "Attempts at the actor that may be in flight, as learned.", labels=labels
        )
        for names, read in self.read.items():
            reading = read()
            for state in GateState:
                gate.add_metric([*names, state], state is reading.gate)
            breaker.add_metric(names, reading.breaker == "open")
            held.add_metric(names, reading.held_s)
            window.add_metric(names, reading.window)
        yield from (gate, breaker, held, window)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far an actor is behind, over all sidecars, as NATS said last."""

    pending: int
    """Messages that were never handed over."""
    ack_pending: int
    """Messages that were handed over and are not settled."""
    redelivered: int
    """Of these, those that were handed over more than once."""
    waiting_pulls: int
    """Requests of sidecars that wait for messages."""
    paused: bool
    """Whether no sidecar is handed anything."""
    oldest_at: float | None
    """When the oldest message was stored that is not settled, in seconds since the epoch; None where all are."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a stream is, as NATS said last."""

    messages: int
    bytes: int
    ratio: float
    """The larger of the shares of its limits for messages and bytes that are used; 0 without limits."""


class InNats(Collector):
    """What NATS knows of actors, events and dead letters. All sidecars that declare them show the same."""

    def __init__(self, epoch_s: Callable[[], float]) -> None:
        self.lags: dict[tuple[str, str], Lag] = {}
        """By event and actor."""
        self.fills: dict[str, Fill] = {}
        """By event."""
        self.scheduled: dict[str, int] = {}
        """Delayed emits that wait for their time, by event; not there where the server has no schedules."""
        self.dead_letters: Fill | None = None
        self._epoch_s = epoch_s

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read all of it."""
        yield self._of_actors(
            "pending_messages", "Messages that no sidecar was handed for this actor yet.", lambda lag: lag.pending
        )
        yield self._of_actors(
            "ack_pending_messages", "Messages handed to a sidecar and not settled.", lambda lag: lag.ack_pending
        )
        yield self._of_actors(
            "redelivered_messages", "Unsettled messages handed over more than once.", lambda lag: lag.redelivered
        )
        yield self._of_actors(
            "waiting_pulls", "Requests for messages that wait in NATS; 0: nobody asks.", lambda lag: lag.waiting_pulls
        )
        yield self._of_actors(
            "consumer_paused", "1 while the actor is paused for all sidecars.", lambda lag: float(lag.paused)
        )
        yield self._of_actors(
            "oldest_age_seconds", "Age of the oldest message that is not settled, 0 where all are.", self._age_s
        )
        yield self._of_events("event_messages", "Messages that the event holds.", lambda fill: fill.messages)
        yield self._of_events("event_bytes", "Bytes that the event holds.", lambda fill: fill.bytes)
        yield self._of_events(
            "event_fill_ratio",
            "Used share of limits.messages or limits.bytes, whichever is more; 0 without limits.",
            lambda fill: fill.ratio,
        )
        scheduled = GaugeMetricFamily(
            "walnatsd_scheduled_messages",
            "Delayed emits that wait in NATS for their time; not there before nats-server 2.12.",
            labels=["event"],
        )
        for event, number in self.scheduled.items():
            scheduled.add_metric([event], number)
        yield scheduled
        stored = GaugeMetricFamily("walnatsd_dead_letters_stored", "Dead letters in NATS, of all actors.", labels=[])
        filled = GaugeMetricFamily(
            "walnatsd_dead_letters_fill_ratio",
            "Used share of dead_letters.bytes; at 1 no dead letter can be stored.",
            labels=[],
        )
        if self.dead_letters is not None:
            stored.add_metric([], self.dead_letters.messages)
            filled.add_metric([], self.dead_letters.ratio)
        yield from (stored, filled)

    def _of_actors(self, name: str, meaning: str, value: Callable[[Lag], float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"walnatsd_{name}", meaning, labels=["event", "actor"])
        for names, lag in self.lags.items():
            family.add_metric(names, value(lag))
        return family

    def _of_events(self, name: str, meaning: str, value: Callable[[Fill], float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"walnatsd_{name}", meaning, labels=["event"])
        for event, fill in self.fills.items():
            family.add_metric([event], value(fill))
        return family

    def _age_s(self, lag: Lag) -> float:
        return 0.0 if lag.oldest_at is None else max(0.0, self._epoch_s() - lag.oldest_at)
