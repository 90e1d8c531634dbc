"""Counting attempts: hand-overs without those that are known to have been none."""

from hypothesis import given
from hypothesis import strategies as st

from walnatsd.dispatch import attempts as module
from walnatsd.dispatch.attempts import Attempts


def test_without_deferrals_an_attempt_is_a_hand_over() -> None:
    attempts = Attempts()
    assert [attempts.number(7, deliveries) for deliveries in (1, 2, 3)] == [1, 2, 3]


def test_deferrals_do_not_count_for_their_message_alone() -> None:
    attempts = Attempts()
    attempts.defer(7)
    attempts.defer(7)
    assert attempts.number(7, 3) == 1
    assert attempts.number(7, 4) == 2
    assert attempts.number(8, 3) == 3


def test_a_settled_message_is_forgotten() -> None:
    attempts = Attempts()
    attempts.defer(7)
    attempts.forget(7)
    attempts.forget(7)
    assert attempts.number(7, 2) == 2


def test_the_number_is_at_least_one_even_where_the_server_counts_anew() -> None:
    attempts = Attempts()
    for _ in range(5):
        attempts.defer(7)
    assert attempts.number(7, 1) == 1


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(monkeypatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    attempts = Attempts()
    for sequence in (1, 2, 3):
        attempts.defer(sequence)
    attempts.defer(1)  # touched again, so 2 is the oldest now
    attempts.defer(4)
    assert [attempts.number(sequence, 10) for sequence in (1, 2, 3, 4)] == [8, 10, 9, 9]


@given(st.lists(st.booleans(), max_size=50))
def test_the_number_counts_just_the_attempts_that_count(counted: list[bool]) -> None:
    attempts = Attempts()
    expected = 1
    for deliveries, counts in enumerate(counted, start=1):
        assert attempts.number(7, deliveries) == expected
        if counts:
            expected += 1
        else:
            attempts.defer(7)
