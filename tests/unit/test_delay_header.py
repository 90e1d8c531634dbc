"""The header `Walnats-Delay`: until when nobody may handle a message."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.model.delay import NEGLIGIBLE_S, delay_left_s

NOW = 1_800_000_000.25


def left(text: str) -> float:
    return delay_left_s({"Walnats-Delay": text}, NOW)


def test_a_message_without_the_header_waits_for_nothing() -> None:
    assert delay_left_s({}, NOW) == 0.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1800000010.25", 10.0), ("1800000001", 0.75), ("1.8000000005e9", 0.25),
        ("1800000000.25", 0.0), ("1800000000.2509", 0.0), ("1799999999", 0.0), ("0", 0.0), ("-5", 0.0), ("-1e308", 0.0),
    ],
)  # fmt: skip
def test_a_time_to_come_is_waited_for_and_a_past_one_is_not(text: str, seconds: float) -> None:
    assert left(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-inf", "1e400", "0x10", "2027-01-15T08:00:00Z", "1,5"])
def test_what_is_no_finite_number_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(ValueError) as error:
        left(text)
    assert "no finite number" in str(error.value)
    assert repr(text) in str(error.value)


def test_the_error_shows_no_more_than_the_beginning_of_a_long_value() -> None:
    with pytest.raises(ValueError) as error:
        left("x" * 10_000)
    assert len(str(error.value)) < 200


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_time_is_waited_for_exactly_to_its_end(until: float) -> None:
    seconds = left(repr(until))
    assert seconds == 0.0 if until - NOW <= NEGLIGIBLE_S else seconds == until - NOW


@given(st.text())
def test_no_text_is_another_error_than_the_one_that_makes_a_dead_letter(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert left(text) >= 0
