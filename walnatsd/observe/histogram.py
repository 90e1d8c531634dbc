"""Histograms that cost an emit or a delivery next to nothing.

The Prometheus library's own takes a lock for the sum and one for the bucket on every observation. Everything here happens
on one event loop, so two additions are enough; the library still writes the result.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class Histogram:
    """Observations of one kind, counted by bucket."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin with nothing; `bounds` are the upper bounds of the buckets, rising, without infinity."""
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all observations."""

    def observe(self, amount: float, count: int = 1) -> None:
        """Count an observation, or several of the same size."""
        self.counts[bisect_left(self._bounds, amount)] += count
        self.total += amount * count

    def observe_all(self, amounts: Collection[float]) -> None:
        """Count observations one by one."""
        bounds, counts = self._bounds, self.counts
        for amount in amounts:
            counts[bisect_left(bounds, amount)] += 1
        self.total += sum(amounts)


class Histograms(Collector):
    """The histograms of one name, told apart by their labels."""

    def __init__(
        self, name: str, meaning: str, labels: Sequence[str], *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        """Describe them; `buckets` are the upper bounds, rising, without infinity."""
        self._name, self._meaning, self._labels = name, meaning, labels
        self._bounds = tuple(buckets)
        self._texts = [*map(floatToGoString, self._bounds), "+Inf"]
        self._known: dict[tuple[str, ...], Histogram] = {}
        self.labels = cache(self._find)
        registry.register(self)

    def _find(self, *values: str) -> Histogram:
        """Give the histogram with these values of the labels."""
        return self._known.setdefault(values, Histogram(self._bounds))

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper bounds of the buckets, rising, without infinity."""
        return self._bounds

    def counts(self) -> dict[tuple[str, ...], tuple[int, ...]]:
        """Copy the count of every bucket, by the values of the labels."""
        return {values: tuple(histogram.counts) for values, histogram in self._known.items()}

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Write all of them, buckets accumulated as the format wants them."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, histogram in self._known.items():
            buckets = list(zip(self._texts, accumulate(histogram.counts), strict=True))
            family.add_metric(values, buckets, histogram.total)
        yield family
