"""CloudEvents in JSON, taken apart as binary mode has them; judged by the CloudEvents SDK."""

import json
import string

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.payload.cloudevents import decoded
from walnatsd.payload.event_json import parse, take_apart

EVENT = {"specversion": "1.0", "id": "1", "source": "/warehouse", "type": "parcel.sent"}


def test_attributes_become_headers_and_data_the_payload() -> None:
    event = take_apart(EVENT | {"subject": 'ü "%', "sampledrate": 7, "urgent": True, "nothing": None, "data": {"a": 1}})
    assert event.headers == {
        "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/warehouse", "ce-type": "parcel.sent",
        "ce-subject": "%C3%BC%20%22%25", "ce-sampledrate": "7", "ce-urgent": "true",
    }  # fmt: skip
    assert (event.content_type, event.payload) == ("application/json", b'{"a":1}')


@pytest.mark.parametrize(
    ("part", "content_type", "payload"),
    [
        ({}, "application/json", b""),
        ({"data": None}, "application/json", b"null"),
        ({"data": "text"}, "application/json", b'"text"'),
        ({"data": 12345678901234567890123}, "application/json", b"12345678901234567890123"),
        ({"data": "text", "datacontenttype": "text/plain"}, "text/plain", b"text"),
        ({"data": "text", "datacontenttype": "application/x+json; charset=utf-8"}, None, b'"text"'),
        ({"data_base64": "AP8=", "datacontenttype": "application/octet-stream"}, None, b"\x00\xff"),
        ({"data_base64": "MQ=="}, "application/json", b"1"),
    ],
)
def test_data_in_all_its_forms(part, content_type, payload) -> None:
    event = take_apart(parse(json.dumps(EVENT | part).encode()))
    assert event.content_type == content_type or part["datacontenttype"]
    assert event.payload == payload


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ([], "a JSON object"),
        ({}, "specversion"),
        (EVENT | {"specversion": "0.3"}, "specversion is '1.0', not '0.3'"),
        (EVENT | {"id": ""}, "id is required"),
        (EVENT | {"source": 7}, "source is required"),
        (EVENT | {"Bad-Name": "x"}, "'Bad-Name' is not made of"),
        (EVENT | {"list": [1]}, "the attribute list is text"),
        (EVENT | {"half": 1.5}, "the attribute half is text"),
        (EVENT | {"datacontenttype": 7}, "datacontenttype is text"),
        (EVENT | {"data": 1, "data_base64": "MQ=="}, "exclude each other"),
        (EVENT | {"data_base64": "!"}, "no base64"),
        (EVENT | {"data_base64": 7}, "no base64"),
    ],
)
def test_what_is_no_cloudevent_is_refused_in_words(event: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        take_apart(event)


@pytest.mark.parametrize(
    "number",
    ["1.10", "12345678901234567890123.10", "1E400", "-0", "0.1e-7", "9223372036854775808", "-123456789012345678901"],
)
def test_numbers_are_stored_digit_by_digit(number: str) -> None:
    text = json.dumps(EVENT)[:-1] + f', "data": {{"amounts": [{number}]}}}}'
    assert take_apart(parse(text.encode())).payload == b'{"amounts":[%s]}' % number.encode()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_python_takes_for_a_number_and_json_does_not_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=f"{number} is no number of JSON"):
        parse(json.dumps(EVENT)[:-1].encode() + b', "data": %s}' % number.encode())


def test_data_that_cannot_be_written_again_is_refused_in_words() -> None:
    for data in (b'"\\ud800"', b"[" * 300 + b"]" * 300):
        with pytest.raises(ValueError, match="data can't be stored as JSON"):
            take_apart(parse(json.dumps(EVENT)[:-1].encode() + b', "data": %s}' % data))


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(b"[" * 200_000)


@given(
    st.dictionaries(
        st.text(string.ascii_lowercase, min_size=1, max_size=10).filter(lambda name: not name.startswith("data")),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
        max_size=4,
    ),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
)
def test_what_the_sdk_writes_is_read_as_it_was(extensions: dict[str, str], data: object) -> None:
    attributes = EVENT | {name: value for name, value in extensions.items() if name not in {*EVENT, "time", "subject"}}
    written = JSONFormat().write(CloudEvent({**attributes, "datacontenttype": "application/json"}, data))
    event = take_apart(parse(written))
    assert json.loads(event.payload or b"null") == data
    read = {name.removeprefix("ce-"): decoded(value) for name, value in event.headers.items()}
    assert {name: value for name, value in read.items() if name != "time"} == attributes  # the SDK adds the time
