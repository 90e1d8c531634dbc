"""The ordering key of a message."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walnatsd.model.actor import Actor, OrderHeader
from walnatsd.model.message import Message
from walnatsd.payload.keys import order_key


def message(payload: bytes = b"", headers: dict[str, str] | None = None) -> Message:
    return Message("parcels", payload, headers or {}, "parcels", 1, 0.0)


@pytest.mark.parametrize(
    ("pointer", "payload", "key"),
    [
        ("/id", b'{"id": 7}', "7"),
        ("/id", b'{"id": "7"}', '"7"'),
        ("/id", b'{"id": 7.0}', "7"),
        ("/id", b'{"id": 7.5}', "7.5"),
        ("/id", b'{"id": -0.0}', "0"),
        ("/id", b'{"id": true}', "true"),
        ("/id", b'{"id": null}', "null"),
        ("/id", b'{"id": {"b": [1.0], "a": 2}}', '{"a":2,"b":[1]}'),
        ("/a/b/1", b'{"a": {"b": [5, 6]}}', "6"),
        ("/a/b/01", b'{"a": {"b": [5, 6]}}', None),
        ("/a/b/-", b'{"a": {"b": [5, 6]}}', None),
        ("/a/b/2", b'{"a": {"b": [5, 6]}}', None),
        ("/a/b/99999999999999999999", b'{"a": {"b": [5, 6]}}', None),
        ("/01", b'{"01": 1}', "1"),
        ("/a~1b", b'{"a/b": 1}', "1"),
        ("/m~0n", b'{"m~n": 1}', "1"),
        ("/m~01", b'{"m~1": 1}', "1"),
        ("/", b'{"": 1}', "1"),
        ("/0", b"[3]", "3"),
        ("/id", b'{"other": 7}', None),
        ("/id/deeper", b'{"id": 7}', None),
        ("/id", b'{"id": ', None),
        ("/id", b"", None),
        ("/id", b"7", None),
        ("/id", b"\xff\xfe", None),
        ("/id", b'{"id": ' + b"[" * 900 + b"]" * 900 + b"}", None),
    ],
)
def test_a_pointer_finds_the_key_in_the_payload(pointer: str, payload: bytes, key: str | None) -> None:
    assert order_key(pointer, message(payload)) == key


@pytest.mark.parametrize("name", ["ce-partitionkey", "CE-PartitionKey", "Ce-Partitionkey"])
def test_a_header_is_found_in_any_case(name: str) -> None:
    order_by = OrderHeader(header="ce-partitionKey")
    assert order_key(order_by, message(b"not JSON", {"x": "1", name: "berlin"})) == "berlin"


def test_a_message_without_the_header_has_no_key() -> None:
    assert order_key(OrderHeader(header="ce-partitionkey"), message(b'{"id": 7}', {"ce-subject": "s"})) is None


def test_long_keys_are_digested_and_stay_different() -> None:
    keys = {order_key("/id", message(orjson.dumps({"id": "x" * 1000 + end}))) for end in "ab"}
    assert len(keys) == 2
    assert all(key is not None and len(key) == 64 for key in keys)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**52), 2**52)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(values, values)
def test_equal_values_have_equal_keys_and_others_do_not(one: object, other: object) -> None:
    def key(value: object) -> str | None:
        return order_key("/id", message(orjson.dumps({"id": value})))

    def typed(value: object) -> object:
        """In Python, True == 1; in JSON it is not."""
        if isinstance(value, bool):
            return ("bool", value)
        if isinstance(value, list):
            return [typed(each) for each in value]
        if isinstance(value, dict):
            return {name: typed(each) for name, each in value.items()}
        return value

    assert key(one) is not None
    assert (key(one) == key(other)) == (typed(one) == typed(other))


@pytest.mark.parametrize("pointer", ["", "id", "/a~", "/a~2", "#/id"])
def test_what_is_no_pointer_is_refused(pointer: str) -> None:
    with pytest.raises(ValueError) as caught:
        Actor.model_validate({"name": "a", "event": "e", "order_by": pointer})
    assert "order_by is a JSON pointer" in str(caught.value)
