"""What happened in the last minute, from histograms that only grow."""

import pytest

from walnatsd.observe.metrics import Metrics
from walnatsd.observe.recent import PERIOD_S, WINDOW_S, Recent, quantile


class Clock:
    now = 1000.0


def test_only_the_last_minute_counts() -> None:
    metrics, clock = Metrics(), Clock()
    metrics.attempt_seconds("counts", "print", "failed").observe(0.02, 100)
    recent = Recent(metrics, lambda: clock.now)
    assert recent.actors() == {}
    for _ in range(int(WINDOW_S / PERIOD_S)):
        clock.now += PERIOD_S
        metrics.attempt_seconds("counts", "print", "acknowledged").observe(0.02, 9)
        metrics.attempt_seconds("counts", "print", "failed").observe(0.02)
        recent.take()
    [(name, activity)] = recent.actors().items()
    assert name == ("counts", "print")
    assert activity.per_s == pytest.approx(10 / PERIOD_S)
    assert activity.outcomes == {"acknowledged": 108, "failed": 12}
    assert 0.01 < activity.median_s < activity.p99_s <= 0.025
    for _ in range(int(WINDOW_S / PERIOD_S) + 2):
        clock.now += PERIOD_S
        recent.take()
    assert recent.actors() == {}


def test_what_began_just_now_is_no_thousand_a_second() -> None:
    metrics, clock = Metrics(), Clock()
    recent = Recent(metrics, lambda: clock.now)
    metrics.emit_seconds("counts", "stored").observe(0.001)
    clock.now += 0.001
    assert recent.events()["counts",].per_s == 0.1


@pytest.mark.parametrize(
    ("share", "buckets", "seconds"),
    [
        (0.5, [0, 0, 0, 0], None),
        (0.5, [2, 0, 0, 0], 0.5),
        (0.5, [1, 1, 0, 0], 1.0),
        (0.99, [0, 0, 100, 0], 2 + 2 * 0.99),
        (0.5, [0, 0, 0, 7], 4.0),
        (0.99, [0, 10, 0, 1], 4.0),
    ],
)
def test_quantiles_are_those_of_prometheus(share, buckets, seconds) -> None:
    assert quantile(share, buckets, (1.0, 2.0, 4.0)) == (seconds if seconds is None else pytest.approx(seconds))
