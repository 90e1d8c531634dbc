"""What happened in the last minute, worked out from the histograms that the metrics keep anyway."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from walnatsd.observe.histogram import Histograms
from walnatsd.observe.metrics import Metrics

PERIOD_S = 5.0
WINDOW_S = 60.0
LEAST_S = 10.0
"""What is younger than this is taken for this old, or the first call would be a thousand a second."""

_Counts = Mapping[tuple[str, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Activity:
    """Emits of an event, or attempts at an actor, of the last minute in this sidecar."""

    per_s: float
    """How many there were in a second."""
    outcomes: Mapping[str, int]
    """How many there were of each outcome."""
    median_s: float | None
    """What half of them took at most; None where there were none."""
    p99_s: float | None
    """What 99 of 100 took at most."""


NOTHING = Activity(0.0, {}, None, None)


class Recent:
    """Remembers the counts of the last minute."""

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        """Begin to remember.

        Args:
            metrics: Where the counts come from.
            now: Seconds from any start that never go back.
        """
        self._now = now
        self._emits = _Window(metrics.emit_histograms)
        self._attempts = _Window(metrics.attempt_histograms)
        self.take()

    async def run(self) -> None:
        """Remember for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self.take()

    def take(self) -> None:
        """Take down how things are now."""
        for window in (self._emits, self._attempts):
            window.take(self._now())

    def events(self) -> dict[tuple[str, ...], Activity]:
        """Give the emits by event."""
        return self._emits.activities(self._now())

    def actors(self) -> dict[tuple[str, ...], Activity]:
        """Give the attempts by event and actor."""
        return self._attempts.activities(self._now())


class _Window:
    """The counts of one set of histograms, whose last label is the outcome."""

    def __init__(self, histograms: Histograms) -> None:
        self._histograms = histograms
        self._samples: deque[tuple[float, _Counts]] = deque()

    def take(self, at: float) -> None:
        before = self._samples[-1][1] if self._samples else {}
        counts = self._histograms.counts()
        # what has not changed is kept once
        self._samples.append((at, {key: before[key] if before.get(key) == now else now for key, now in counts.items()}))
        while len(self._samples) > 1 and self._samples[1][0] <= at - WINDOW_S:
            self._samples.popleft()

    def activities(self, at: float) -> dict[tuple[str, ...], Activity]:
        since, before = next((s for s in self._samples if s[0] >= at - WINDOW_S - PERIOD_S), self._samples[-1])
        grown: dict[tuple[str, ...], dict[str, list[int]]] = {}
        for (*name, outcome), counts in self._histograms.counts().items():
            was = before.get((*name, outcome), (0,) * len(counts))
            new = [now - then for now, then in zip(counts, was, strict=True)]
            if any(new):
                grown.setdefault(tuple(name), {})[outcome] = new
        elapsed_s = max(at - since, LEAST_S)
        return {name: _activity(by_outcome, self._histograms.bounds, elapsed_s) for name, by_outcome in grown.items()}


def _activity(by_outcome: Mapping[str, Sequence[int]], bounds: Sequence[float], elapsed_s: float) -> Activity:
    buckets = [sum(counts) for counts in zip(*by_outcome.values(), strict=True)]
    return Activity(
        per_s=sum(buckets) / elapsed_s,
        outcomes={outcome: sum(counts) for outcome, counts in by_outcome.items()},
        median_s=quantile(0.5, buckets, bounds),
        p99_s=quantile(0.99, buckets, bounds),
    )


def quantile(share: float, buckets: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Estimate what a share of the observations is not above, as Prometheus' `histogram_quantile` does.

    Args:
        share: From 0 to 1.
        buckets: How many there are in each; one more than bounds.
        bounds: The upper bounds, rising, without infinity. What is above the last is taken for it.
    """
    if not any(buckets):
        return None
    rank = share * sum(buckets)
    for (below, upper), count, upto in zip(_edges(bounds), buckets, accumulate(buckets), strict=False):
        if count and upto >= rank:
            return below + (upper - below) * (rank - (upto - count)) / count
    return bounds[-1]


def _edges(bounds: Sequence[float]) -> Iterator[tuple[float, float]]:
    yield from zip((0.0, *bounds), bounds, strict=False)
