"""Values of attributes in headers, as section 3.1.3.2 of the CloudEvents HTTP and NATS bindings has them."""

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.payload.cloudevents import content_type, decoded, encode_given, encoded, is_structured

REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        # "The encoded HTTP header value is therefore …"
        ("Euro € \U0001f600", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        # "Space (U+0020)", "Double-quote (U+0022)", "Percent (U+0025)" MUST be encoded
        ('a "b" 100%', "a%20%22b%22%20100%25"),
        # "any header value MUST first be unescaped with respect to double-quoted strings"
        ('"a b"', "a%20b"),
        ('"say \\"ü\\" \\\\"', "say%20%22%C3%BC%22%20\\"),
        ('"Euro%20%E2%82%AC"', "Euro%20%E2%82%AC"),
        # "A single round of percent-decoding": what is encoded is not encoded again
        ("a%20b%25", "a%20b%25"),
        # "decoding MUST accept lower-case values", and what is encoded without need
        ("caf%c3%a9", "caf%c3%a9"),
        ("%41", "%41"),
        # no escape at all
        ("100% sure", "100%25%20sure"),
        ('"', "%22"),
        ("", ""),
    ],
)
def test_a_value_is_percent_encoded_once_in_whatever_way_it_is_written(value: str, written: str) -> None:
    assert encoded(value) == encode_given(value) == written
    assert encoded(written) == written


@pytest.mark.parametrize("value", ["%C0%A0", "%ff", "a%20%E2%82", "%ED%A0%80"])
def test_what_is_encoded_and_not_utf_8_is_rejected(value: str) -> None:
    """ "encoded byte sequences which are invalid in UTF-8 MUST be rejected" """
    with pytest.raises(ValueError, match="not as UTF-8"):
        encode_given(value)
    assert encoded(value) == value  # of a message that is there already, it goes on as it is


@given(TEXT)
def test_the_sdk_reads_what_is_written_here(value: str) -> None:
    written = encoded(value.replace("%", "%25").replace('"', "%22"))  # as text that is no encoding by chance
    message = HTTPMessage({f"ce-{name}": text for name, text in {**REQUIRED, "subject": written}.items()}, b"1")
    assert from_binary_event(message).get_subject() == value
    assert decoded(written) == value


@given(TEXT)
def test_what_the_sdk_writes_is_left_as_it_is(value: str) -> None:
    header = to_binary_event(CloudEvent({**REQUIRED, "subject": value}, None)).headers["ce-subject"]
    assert encode_given(header) == header
    assert decoded(header) == value


def test_the_content_type_among_the_attributes_is_decoded() -> None:
    for written in ("text/plain;%20charset=utf-8", "text/plain; charset=utf-8", '"text/plain; charset=utf-8"'):
        assert content_type({"ce-datacontenttype": written}) == "text/plain; charset=utf-8"


def test_the_structured_mode_is_known_by_its_prefix() -> None:
    """ "If the value is prefixed with the CloudEvents media type `application/cloudevents`" (HTTP binding, section 3)"""
    assert is_structured("application/cloudevents+json; charset=utf-8")
    assert is_structured("Application/CloudEvents")
    assert not is_structured("application/json")
