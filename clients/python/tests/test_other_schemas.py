"""Payloads of schemas that come with a library of their own: the same bytes as the walnats library."""

import builtins
import sys
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import marshmallow
import pydantic
import pytest
import walnats
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

import walnatsd_client as walnatsd

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**64 - 1)
# what MessagePack has beside JSON: bytes, and keys that are no texts
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | TEXTS | st.binary(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS | NUMBERS, values, max_size=4),
    max_leaves=12,
)


@dataclass(frozen=True)
class Line:
    sku: str
    amount: int


@dataclass(frozen=True)
class Order:
    id: int
    lines: list[Line]


@given(message=VALUES)
def test_message_pack_is_that_of_walnats(message: Any) -> None:
    event = walnatsd.Event[Any]("e", dict, serializer=walnatsd.MessagePack())
    ancestor = walnats.Event("e", object, serializer=walnats.serializers.MessagePackSerializer())
    payload = event.encode(message)
    assert payload == ancestor.encode(message)
    assert event.decode(payload) == message
    assert event.content_type == "application/vnd.msgpack"


@given(message=st.builds(Order, NUMBERS, st.lists(st.builds(Line, TEXTS, NUMBERS), max_size=3)))
def test_message_pack_carries_dataclasses(message: Order) -> None:
    event = walnatsd.Event("e", Order, serializer=walnatsd.MessagePack(Order))
    assert event.decode(event.encode(message)) == message


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xc1", ""),
        (b"\x81", ""),
        (b"\x01\x01", "extra data"),
        (b"\xa1\xff", "utf-8"),
        (b"\x91" * 3000, ""),
        (b"\x81\x90\x01", "unhashable"),
        (b"\x81\xa2id\xa1x", "$.id: expected int, got str"),
    ],
)
def test_what_is_no_message_pack_of_the_schema_is_refused(payload: bytes, reason: str) -> None:
    event = walnatsd.Event("e", Order, serializer=walnatsd.MessagePack(Order))
    with pytest.raises(ValueError) as caught:
        event.decode(payload)
    assert reason in str(caught.value) or "$.lines is missing" in str(caught.value)


def test_without_the_library_message_pack_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "msgpack":
            raise ModuleNotFoundError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "msgpack", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install walnatsd-client\[msgpack\]"):
        walnatsd.MessagePack()


@given(seconds=st.integers(-62135596800, 253402300799), nanos=st.integers(0, 999_999_999))
def test_protobuf_messages_are_those_of_walnats(seconds: int, nanos: int) -> None:
    message = Timestamp(seconds=seconds, nanos=nanos)
    event, ancestor = walnatsd.Event("e", Timestamp), walnats.Event("e", Timestamp)
    payload = event.encode(message)
    assert payload == ancestor.encode(message)
    assert event.decode(payload) == message == ancestor.decode(payload)


@given(text=TEXTS, number=st.floats(allow_nan=False))
def test_protobuf_messages_with_messages_in_them_come_back(text: str, number: float) -> None:
    message = Struct()
    message.update({"text": text, "inner": {"number": number}})
    event = walnatsd.Event("e", Struct)
    assert event.decode(event.encode(message)) == message


class ParcelSchema(marshmallow.Schema):
    id = marshmallow.fields.Integer(required=True)
    note = marshmallow.fields.String(allow_none=True)
    tags = marshmallow.fields.List(marshmallow.fields.String())
    sent = marshmallow.fields.DateTime()


@given(
    message=st.fixed_dictionaries(
        {"id": st.integers()},
        optional={"note": st.none() | TEXTS, "tags": st.lists(TEXTS, max_size=3), "sent": st.datetimes()},
    )
)
def test_marshmallow_schemas_write_and_load_as_in_walnats(message: dict[str, Any]) -> None:
    event, ancestor = walnatsd.Event("e", ParcelSchema), walnats.Event("e", ParcelSchema)
    payload = event.encode(message)
    assert payload == ancestor.encode(message)  # type: ignore[arg-type]  # walnats' word for it is the schema
    assert event.decode(payload) == message == ancestor.decode(payload)


class Address(pydantic.BaseModel):
    street: str
    number: int | None = None


class Customer(pydantic.BaseModel):
    id: int
    name: str
    weight: float = 1.0
    tags: list[str] = []
    labels: dict[str, bool] = {}
    address: Address | None = None


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it is not made for the newest Pythons
    import pydantic.v1


class OldAddress(pydantic.v1.BaseModel):
    street: str
    number: int | None = None


class OldCustomer(pydantic.v1.BaseModel):
    id: int
    name: str
    weight: float = 1.0
    tags: list[str] = []
    labels: dict[str, bool] = {}
    address: OldAddress | None = None
    seen: datetime | None = None


CUSTOMERS = st.fixed_dictionaries(
    {"id": st.integers(), "name": TEXTS},
    optional={
        "weight": st.floats(allow_nan=False, allow_infinity=False),
        "tags": st.lists(TEXTS, max_size=3),
        "labels": st.dictionaries(TEXTS, st.booleans(), max_size=3),
        "address": st.none() | st.fixed_dictionaries({"street": TEXTS, "number": st.none() | st.integers()}),
    },
)


@given(values=CUSTOMERS)
def test_pydantic_models_are_those_of_walnats(values: dict[str, Any]) -> None:
    """walnats takes pydantic 1 alone, which pydantic 2 carries along."""
    message, old = Customer(**values), OldCustomer(**values)
    event = walnatsd.Event("e", Customer)
    ancestor = walnats.serializers.PydanticSerializer(OldCustomer)  # type: ignore[arg-type]
    payload = event.encode(message)
    assert payload == ancestor.encode(old).replace(b',"seen":null', b"")  # type: ignore[arg-type]
    assert event.decode(payload) == message
    assert ancestor.decode(payload) == old  # type: ignore[comparison-overlap]


@given(values=CUSTOMERS, seen=st.datetimes())
def test_pydantic_1_models_are_those_of_walnats_to_the_last_byte(values: dict[str, Any], seen: datetime) -> None:
    message = OldCustomer(**values, seen=seen)
    event = walnatsd.Event("e", OldCustomer)
    payload = event.encode(message)
    assert payload == walnats.serializers.PydanticSerializer(OldCustomer).encode(message)  # type: ignore[arg-type]
    assert event.decode(payload) == message
    with pytest.raises(ValueError, match="field required"):
        event.decode(b"{}")


def test_what_is_wrong_with_a_payload_is_told_without_its_values() -> None:
    """It becomes a reason of a dead letter, which is logged."""
    event = walnatsd.Event("e", Customer)
    with pytest.raises(ValueError, match=r"^id: .*; address\.street: ") as caught:
        event.decode(b'{"id": "s3cret", "name": "x", "address": {"street": 1234567}}')
    assert "s3cret" not in str(caught.value)
    assert "1234567" not in str(caught.value)
    with pytest.raises(ValueError, match="JSON") as caught:
        event.decode(b'{"id": s3cret')
    assert "s3cret" not in str(caught.value)
