"""Counting attempts: hand-overs without those that are known to have been none."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from walnatsd.dispatch import attempts as module
from walnatsd.dispatch.attempts import Attempts


@dataclass
class HandOver:
    """A delivery as the counting sees it."""

    deliveries: int = 1
    sequence: int = 7
    attempts_before: int = 0

    presumed_deferrals: int = 0

    @property
    def has_past(self) -> bool:
        return bool(self.attempts_before or self.presumed_deferrals)

    @property
    def key(self) -> tuple[str, int]:
        return ("counts", self.sequence)

    @property
    def origin(self) -> tuple[str, int]:
        return self.key


def test_without_deferrals_an_attempt_is_a_hand_over() -> None:
    attempts = Attempts()
    assert [attempts.number(HandOver(deliveries)) for deliveries in (1, 2, 3)] == [1, 2, 3]


def test_attempts_that_were_made_elsewhere_are_added() -> None:
    assert Attempts().number(HandOver(2, attempts_before=5)) == 7


def test_deferrals_do_not_count_for_their_message_alone() -> None:
    attempts = Attempts()
    attempts.defer(HandOver(1))
    attempts.defer(HandOver(2))
    assert attempts.number(HandOver(3)) == 1
    assert attempts.number(HandOver(4)) == 2
    assert attempts.number(HandOver(3, sequence=8)) == 3


def test_a_settled_message_is_forgotten() -> None:
    attempts = Attempts()
    attempts.defer(HandOver(1))
    attempts.forget(HandOver(2))
    attempts.forget(HandOver(2))
    assert attempts.number(HandOver(2)) == 2


def test_the_number_is_at_least_one_even_where_the_server_counts_anew() -> None:
    attempts = Attempts()
    for deliveries in range(1, 6):
        attempts.defer(HandOver(deliveries))
    assert attempts.number(HandOver(1)) == 1


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(monkeypatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_MESSAGES", 3)
    attempts = Attempts()
    for sequence in (1, 2, 3):
        attempts.defer(HandOver(sequence=sequence))
    attempts.defer(HandOver(sequence=1))  # touched again, so 2 is the oldest now
    attempts.defer(HandOver(sequence=4))
    assert [attempts.number(HandOver(10, sequence)) for sequence in (1, 2, 3, 4)] == [8, 10, 9, 9]


@given(st.lists(st.booleans(), max_size=50))
def test_the_number_counts_just_the_attempts_that_count(counted: list[bool]) -> None:
    attempts = Attempts()
    expected = 1
    for deliveries, counts in enumerate(counted, start=1):
        assert attempts.number(HandOver(deliveries)) == expected
        if counts:
            expected += 1
        else:
            attempts.defer(HandOver(deliveries))
