"""The Python client's serializers against walnats': the same bytes, each reads the other's."""

import dataclasses
import datetime as dt
from typing import Any

import pydantic
import pytest
import walnats
from hypothesis import given
from hypothesis import strategies as st

import walnatsd_client


@dataclasses.dataclass(frozen=True)
class Address:
    street: str
    number: int | None


@dataclasses.dataclass(frozen=True)
class Parcel:
    id: int
    weight: float
    fragile: bool
    tags: list[str]
    notes: dict[str, str]
    address: Address | None = None


class Model(pydantic.BaseModel):
    id: int
    weight: float
    text: str
    nothing: int | None = None
    tags: list[str] = []
    moment: dt.datetime


def encoders(schema: Any) -> tuple[walnatsd_client.Event[Any], walnats.Event[Any]]:
    return walnatsd_client.Event("counts", schema), walnats.Event("counts", schema)


def same_both_ways(schema: Any, message: Any) -> bytes:
    """Both write the same bytes, and both read them as the message."""
    ours, theirs = encoders(schema)
    payload = ours.encode(message)
    assert payload == theirs.encode(message)
    assert ours.decode(payload) == message
    assert theirs.decode(payload) == message
    assert type(ours.decode(payload)) is type(theirs.decode(payload))
    return payload


texts = st.text(st.characters(exclude_categories=["Cs"]))
floats = st.floats(allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(texts, values, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("schema", "message", "payload"),
    [
        (int, 7, b"7"),
        (int, -(10**30), b"-1000000000000000000000000000000"),
        (float, 1.0, b"1.0"),
        (float, 1e16, b"1e+16"),
        (float, float("inf"), b"Infinity"),
        (bool, True, b"true"),
        (str, 'Fü "x"\n', b'"F\\u00fc \\"x\\"\\n"'),
        (str, "\U0001f600", b'"\\ud83d\\ude00"'),
        (list, [1, "a", None], b'[1,"a",null]'),
        (dict, {"b": 1, "a": {"c": []}}, b'{"b":1,"a":{"c":[]}}'),
        (type(None), None, b"null"),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (Address, Address("Füße", None), b'{"street":"F\\u00fc\\u00dfe","number":null}'),
        (dt.date, dt.date(2026, 11, 24), b"2026-11-24"),
        (dt.datetime, dt.datetime(2026, 11, 24, 1, 2, 3, tzinfo=dt.UTC), b"2026-11-24T01:02:03+00:00"),
    ],
)
def test_known_messages_have_known_bytes(schema: Any, message: Any, payload: bytes) -> None:
    assert same_both_ways(schema, message) == payload


@given(st.integers())
def test_integers(message: int) -> None:
    same_both_ways(int, message)


@given(floats)
def test_floats(message: float) -> None:
    same_both_ways(float, message)


@given(texts)
def test_texts(message: str) -> None:
    same_both_ways(str, message)


@given(st.lists(json_values, max_size=5))
def test_lists(message: list[Any]) -> None:
    same_both_ways(list, message)


@given(st.dictionaries(texts, json_values, max_size=5))
def test_dicts(message: dict[str, Any]) -> None:
    same_both_ways(dict, message)


@given(st.binary())
def test_bytes(message: bytes) -> None:
    same_both_ways(bytes, message)


offsets = st.integers(-86_399, 86_399).map(lambda seconds: dt.timezone(dt.timedelta(seconds=seconds)))


@given(st.datetimes(timezones=st.none() | offsets))
def test_datetimes(message: dt.datetime) -> None:
    same_both_ways(dt.datetime, message)


@given(st.dates())
def test_dates(message: dt.date) -> None:
    same_both_ways(dt.date, message)


@given(st.builds(Address, texts, st.none() | st.integers()))
def test_flat_dataclasses(message: Address) -> None:
    same_both_ways(Address, message)


@given(st.builds(Parcel, st.integers(), floats, st.booleans(), st.lists(texts), st.dictionaries(texts, texts)))
def test_nested_dataclasses_are_the_same_bytes_and_more_than_walnats_reads_back(message: Parcel) -> None:
    message = dataclasses.replace(message, address=Address("x", 1))
    ours, theirs = encoders(Parcel)
    payload = ours.encode(message)
    assert payload == theirs.encode(message)
    assert ours.decode(payload) == message
    assert theirs.decode(payload).address == {"street": "x", "number": 1}  # walnats builds the outer one only


def test_pydantic_2_writes_times_in_its_own_way_and_each_reads_the_others() -> None:
    """walnats' serializer needs pydantic 1."""
    moment = dt.datetime(2026, 11, 24, 1, 2, 3, tzinfo=dt.UTC)
    message = Model(id=7, weight=1.5, text="Füße", tags=["a"], moment=moment)
    event = walnatsd_client.Event("counts", Model)
    payload = event.encode(message)
    assert payload == (
        b'{"id":7,"weight":1.5,"text":"F\\u00fc\\u00dfe","nothing":null,"tags":["a"],"moment":"2026-11-24T01:02:03Z"}'
    )
    assert event.decode(payload) == message
    by_pydantic_1 = payload.replace(b"03Z", b"03+00:00")
    assert event.decode(by_pydantic_1) == message
