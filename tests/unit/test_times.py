"""match_time: which ticks of a clock an actor handles, as walnats' filter_time does it."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walnats.decorators import filter_time

from walnatsd.model.actor import MatchTime
from walnatsd.payload.times import matches, tick_of

_parts = {"month": (1, 12), "day": (1, 28), "hour": (0, 23), "minute": (0, 59)}


@given(
    st.datetimes(min_value=dt.datetime.fromisoformat("2022-01-01")),
    st.fixed_dictionaries(
        {}, optional={name: st.lists(st.integers(*span), min_size=1, max_size=30) for name, span in _parts.items()}
    ),
)
def test_it_matches_what_walnats_filter_time_matches(tick: dt.datetime, pattern: dict[str, list[int]]) -> None:
    seen: list[dt.datetime] = []
    filter_time(**pattern)(seen.append)(tick)
    assert matches(MatchTime.model_validate(pattern), tick) is bool(seen)


@pytest.mark.parametrize("payload", [b"2026-11-24T12:30:00", b'"2026-11-24T12:30:00"', b"2026-11-24T12:30:00.001\n"])
def test_ticks_are_read_as_written(payload: bytes) -> None:
    tick = tick_of(payload)
    assert (tick.hour, tick.minute) == (12, 30)


@pytest.mark.parametrize("payload", [b"", b"noon", b"\xff", b"{}"])
def test_what_is_no_time_is_refused_in_words(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no ISO 8601 time"):
        tick_of(payload)
