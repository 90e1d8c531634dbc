"""Histograms that count many observations at once."""

from hypothesis import given
from hypothesis import strategies as st

from walnatsd.observe.histogram import Histogram

BOUNDS = (0.1, 1, 10)


@given(st.lists(st.floats(0, 100)))
def test_many_observations_at_once_are_what_they_are_one_by_one(amounts: list[float]) -> None:
    together, alone = Histogram(BOUNDS), Histogram(BOUNDS)
    together.observe_all(amounts)
    for amount in amounts:
        alone.observe(amount)
    assert together.counts == alone.counts
    assert abs(together.total - alone.total) < 1e-6
