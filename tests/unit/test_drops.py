"""Drops read off where a consumer stands: never too many, all of them where nothing was handed over twice."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.broker.drops import Standing, dropped_between, read_advisory

STEPS = st.lists(st.sampled_from(["hand over", "again", "drop"]), max_size=50)


def walk(steps: list[str]) -> tuple[Standing, int, int]:
    """Where a consumer stands after these steps, the drops among them, and the repeated hand-overs."""
    place = deliveries = 0
    for step in steps:
        place += step != "again"
        deliveries += step != "drop"
    return Standing("t", place, deliveries), steps.count("drop"), steps.count("again")


@given(STEPS, STEPS)
def test_drops_are_never_overstated_and_repeated_hand_overs_hide_at_most_as_many(first, second) -> None:
    before, _, _ = walk(first)
    after, _, _ = walk(first + second)
    dropped, again = second.count("drop"), second.count("again")
    assert max(0, dropped - again) == dropped_between(before, after) <= dropped


@pytest.mark.parametrize(
    "before",
    [Standing("earlier", 0, 0), Standing("t", 0, 11)],
    ids=["another consumer of the name", "a leader that knows less"],
)
def test_what_can_not_be_compared_counts_nothing(before) -> None:
    assert dropped_between(before, Standing("t", 100, 10)) == 0


def test_only_terminations_by_the_server_are_drops() -> None:
    advisory = {"stream": "counts", "consumer": "print", "reason": "Unacknowledged message was deleted"}
    assert read_advisory(json.dumps(advisory).encode()) == ("counts", "print")
    assert read_advisory(json.dumps(advisory | {"reason": "dead letter"}).encode()) is None
    for nonsense in (b"", b"[]", b'"x"', b"1", b"{}", b'{"reason":"Unacknowledged message was deleted"}'):
        assert read_advisory(nonsense) is None
