"""Reading `Retry-After`: seconds, the three date formats of HTTP, nonsense."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.webhook.answers import LONGEST_RETRY_AFTER_S, retry_after_s

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7
HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("3600", HOUR_S),
        ("3601", HOUR_S),
        ("31536000", HOUR_S),  # a year
        ("9" * 400, HOUR_S),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),  # past
        ("Mon, 06 Nov 1995 08:49:37 GMT", HOUR_S),  # a year
        ("Fri, 31 Dec 9999 23:59:59 GMT", HOUR_S),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),  # obsolete, yet to be read (RFC 9110 section 5.6.7)
        ("Sun Nov  6 08:49:47 1994", 10.0),  # the same; asctime has no zone and means UTC
    ],
)
def test_seconds_and_dates_are_read_and_bounded_to_an_hour(text: str, seconds: float) -> None:
    assert retry_after_s(text, now=NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "soon", "-1", "+1", "1.5", "1e3", "0x10", "1,2", "1 2", "²", "١٢", "nan", "inf", "NaN GMT",
        "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994", "Sun, 06 Nov 99999999999 08:49:37 GMT", "\x00", "\ud800",
    ],
)  # fmt: skip
def test_nonsense_counts_as_none(text: str) -> None:
    assert retry_after_s(text, now=NOW) is None


def test_no_header_is_none() -> None:
    assert retry_after_s(None, now=NOW) is None


def test_a_date_without_a_zone_is_utc_wherever_the_host_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """asctime dates were read in the host's zone, so a host in New York waited an hour for ten seconds."""
    monkeypatch.setenv("TZ", "EST+5")
    time.tzset()
    try:
        assert retry_after_s("Sun Nov  6 08:49:47 1994", now=NOW) == 10.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{1,12} \d{2}:\d{2}:\d{2} ?\S{0,6}"))
def test_no_text_is_an_exception_or_a_wait_beyond_an_hour(text: str) -> None:
    seconds = retry_after_s(text, now=NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_S


@given(st.integers(0, 10**30), st.integers(0, 30))
def test_any_number_of_seconds_is_taken_up_to_an_hour(number: int, zeros: int) -> None:
    assert retry_after_s("0" * zeros + str(number), now=NOW) == min(number, HOUR_S)
