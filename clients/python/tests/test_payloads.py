"""Payloads: the same bytes as the walnats library, and nothing else than the schema comes back."""

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from types import NoneType
from typing import Any, Literal, NamedTuple

import marshmallow
import pydantic
import pytest
import walnats
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given
from hypothesis import strategies as st

import walnatsd_client as walnatsd
from walnatsd_client import _event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


class Status(StrEnum):
    SENT = "sent"
    LOST = "lost"


@dataclass(frozen=True)
class Line:
    sku: str
    amount: int = 1


@dataclass(frozen=True)
class Parcel:
    id: int
    weight: float
    lines: list[Line]
    size: tuple[int, int, int] = (1, 1, 1)
    tags: tuple[str, ...] = ()
    labels: dict[str, int] = field(default_factory=dict)
    note: str | None = None
    first: Line | None = None
    status: Status = Status.SENT
    speed: Literal["slow", "fast"] = "slow"
    more: Any = None
    sku_count: int = field(default=0, init=False)


class Customer(pydantic.BaseModel):
    name: str
    tags: list[str] = []


class ParcelSchema(marshmallow.Schema):
    id = marshmallow.fields.Integer(required=True)
    note = marshmallow.fields.String(allow_none=True)
    sent = marshmallow.fields.DateTime()


LINES = st.builds(Line, st.text(), st.integers())
PARCELS = st.builds(
    Parcel,
    id=st.integers(),
    weight=st.floats(allow_nan=False) | st.integers(-1000, 1000),
    lines=st.lists(LINES, max_size=3),
    size=st.tuples(st.integers(), st.integers(), st.integers()),
    tags=st.lists(st.text(), max_size=3).map(tuple),
    labels=st.dictionaries(st.text(), st.integers(), max_size=3),
    note=st.none() | st.text(),
    first=st.none() | LINES,
    status=st.sampled_from(Status),
    speed=st.sampled_from(["slow", "fast"]),
    more=JSON.filter(lambda value: "nan" not in repr(value)),
)

MESSAGES: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers() | st.booleans(),
    float: st.floats(allow_nan=False) | st.integers(-1000, 1000),
    str: st.text(),
    bool: st.booleans(),
    list: st.lists(JSON.filter(lambda value: "nan" not in repr(value))),
    dict: st.dictionaries(st.text(), JSON.filter(lambda value: "nan" not in repr(value))),
    NoneType: st.none(),
    bytes: st.binary(),
    datetime: st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    date: st.dates(),
    Line: LINES,
    Parcel: PARCELS,
}


@pytest.mark.parametrize("schema", MESSAGES)
@given(data=st.data())
def test_the_bytes_are_those_of_walnats_and_come_back_as_the_message(schema: type, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[schema])
    event, ancestor = walnatsd.Event("e", schema), walnats.Event("e", schema)
    payload = event.encode(message)
    assert payload == ancestor.encode(message)
    assert event.decode(payload) == message


@given(message=st.floats() | st.lists(JSON) | JSON)
def test_json_is_that_of_walnats_even_where_it_is_not_quite_json(message: object) -> None:
    assert walnatsd.Event("e", list).encode(message) == walnats.Event("e", list).encode(message)  # type: ignore[arg-type]


@given(message=st.lists(LINES))
def test_dataclasses_come_back_out_of_lists(message: list[Line]) -> None:
    event = walnatsd.Event("e", list[Line])
    payload = event.encode(message)
    assert payload == walnats.Event("e", list).encode([dataclasses.asdict(line) for line in message])
    assert event.decode(payload) == message


@pytest.mark.parametrize(
    ("schema", "content_type"),
    [
        (int, "application/json"),
        (None, "application/json"),
        (Line, "application/json"),
        (Customer, "application/json"),
        (ParcelSchema, "application/json"),
        (StringValue, "application/protobuf"),
        (bytes, "application/octet-stream"),
        (datetime, "text/plain"),
        (date, "text/plain"),
    ],
)
def test_the_content_type_follows_the_schema(schema: Any, content_type: str) -> None:
    assert walnatsd.Event("e", schema).content_type == content_type


def test_keys_that_a_dataclass_does_not_know_are_ignored_so_that_emitters_may_add_fields() -> None:
    assert walnatsd.Event("e", Line).decode(b'{"sku":"a","colour":"red"}') == Line("a")


def test_a_whole_number_is_a_float_where_one_is_declared() -> None:
    message = walnatsd.Event("e", float).decode(b"1")
    assert (message, type(message)) == (1.0, float)


def test_a_whole_number_stays_one_where_both_are_declared() -> None:
    @dataclass
    class Amount:
        value: float | int

    large = 2**53 + 1
    assert walnatsd.Event("e", Amount).decode(b'{"value":%d}' % large) == Amount(large)


@pytest.mark.parametrize(
    ("schema", "payload", "reason"),
    [
        (int, b'"1"', "$: expected int, got str"),
        (int, b"1.0", "$: expected int, got float"),
        (bool, b"1", "$: expected bool, got int"),
        (str, b"null", "$: expected str, got NoneType"),
        (NoneType, b"0", "$: expected NoneType, got int"),
        (float, b"1" + b"0" * 400, "$: the number is too large for a float"),
        (list, b"{}", "$: expected list, got dict"),
        (list[int], b'[1,"2"]', "$[1]: expected int, got str"),
        (dict[str, int], b'{"a":[]}', "$.a: expected int, got list"),
        (Line, b"[]", "$: expected dict, got list"),
        (Line, b"{}", "$.sku is missing"),
        (Parcel, b'{"id":1,"weight":1,"lines":[{"sku":1}]}', "$.lines[0].sku: expected str, got int"),
        (Parcel, b'{"id":1,"weight":1,"lines":[],"size":[1]}', "$.size: expected 3 items, got 1"),
        (Parcel, b'{"id":1,"weight":1,"lines":[],"note":1}', "$.note: expected Optional[str], got int"),
        (Parcel, b'{"id":1,"weight":1,"lines":[],"speed":"x"}', "$.speed: expected Literal['slow', 'fast'], got str"),
        (Parcel, b'{"id":1,"weight":1,"lines":[],"status":"x"}', "'x' is not a valid Status"),
        (date, b"2030-01-02T00:00:00", ""),
        (datetime, b"yesterday", ""),
        (datetime, b"\xff", ""),
        (Customer, b'{"name":1}', ""),
        (ParcelSchema, b'{"id":"x"}', "{'id': ['Not a valid integer.']}"),
        (ParcelSchema, b"{", ""),
        (ParcelSchema, b"\xff", ""),
        (StringValue, b"\xff", "Error parsing message"),
    ],
)
def test_a_payload_of_another_type_is_refused_with_the_place_named(schema: Any, payload: bytes, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        walnatsd.Event("e", schema).decode(payload)
    assert reason in str(caught.value)


class Point(NamedTuple):
    x: int


@dataclass
class Unresolved:
    other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821 - that is the mistake


@pytest.mark.parametrize("schema", [set, tuple, Point, object, int | None, Unresolved])
def test_a_schema_that_no_serializer_fits_is_refused_at_declaration(schema: Any) -> None:
    with pytest.raises(TypeError):
        walnatsd.Event("e", schema)


def test_what_json_can_not_write_is_refused_with_its_type_named() -> None:
    with pytest.raises(TypeError, match="datetime can't be written as JSON"):
        walnatsd.Event("e", list).encode([datetime.now(UTC)])


def test_an_event_uses_the_serializer_it_is_given() -> None:
    @dataclass(frozen=True)
    class Hex:
        content_type: str = "text/x-hex"

        def encode(self, message: int, /) -> bytes:
            return b"%x" % message

        def decode(self, payload: bytes, /) -> int:
            return int(payload, 16)

    event = walnatsd.Event("e", int, serializer=Hex())
    assert (event.encode(255), event.decode(b"ff"), event.content_type) == (b"ff", 255, "text/x-hex")


def test_declarations_are_values() -> None:
    event, same = walnatsd.Event("e", list[int]), walnatsd.Event("e", list[int])
    assert event == same
    assert len({event, same, walnatsd.Event("e", int)}) == 2
    actor, twin = (walnatsd.Actor("a", e, print, headers={"X": "y"}) for e in (event, same))
    assert {actor: "found"}[twin] == "found"
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.name = "f"  # type: ignore[misc]


def test_the_type_may_be_named_twice() -> None:
    event = walnatsd.Event[Any]("e", dict)
    assert event == walnatsd.Event("e", dict)
    assert walnatsd.Actor[Any]("a", event, print) == walnatsd.Actor("a", event, print)


def test_the_options_that_the_type_checker_knows_are_the_fields_of_an_event() -> None:
    options = [f.name for f in dataclasses.fields(walnatsd.Event) if f.kw_only and f.init]
    assert options == list(_event._Options.__annotations__)
