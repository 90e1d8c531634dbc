"""The headers of one attempt, and the CloudEvents among them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.payload.cloudevents import in_ascii, rfc3339
from walnatsd.webhook.request import delivery_headers, webhook_id

PRINT = Actor(name="print", event="parcel.sent", url="http://127.0.0.1:1/")


def message(headers: dict[str, str] | None = None, *, stream: str = "parcel-sent", sequence: int = 7) -> Message:
    return Message(
        event="parcel.sent", payload=b"{}", headers=headers or {}, stream=stream, sequence=sequence,
        stored_at=1_700_000_000.25,
    )  # fmt: skip


def sent(headers: dict[str, str] | None = None, *, configured: dict[str, str] | None = None) -> dict[str, str]:
    return delivery_headers(message(headers), PRINT, attempt=3, source="warehouse", configured=configured or {})


def test_a_bare_message_is_a_whole_cloudevent_of_json() -> None:
    assert sent() == {
        "content-type": "application/json",
        "ce-id": "parcel-sent-7", "ce-source": "warehouse", "ce-type": "parcel.sent", "ce-specversion": "1.0",
        "ce-time": "2023-11-14T22:13:20.250000Z",
        "webhook-id": webhook_id(message(), "print"),
        "walnats-event": "parcel.sent", "walnats-actor": "print", "walnats-sequence": "7", "walnats-attempt": "3",
    }  # fmt: skip


def test_what_the_emitter_gave_stands_for_what_would_be_filled_in() -> None:
    headers = sent(
        {
            "Nats-Msg-Id": "u 1", "Walnats-Trace": "t", "ce-id": "i", "CE-Source": "/s", "ce-type": "t.v2", "ce-time": "x",
            "ce-mine": "m", "traceparent": "p", "tracestate": "s", "X-Own": "o",
        }
    )  # fmt: skip
    assert headers["walnats-uid"] == "u 1"
    assert headers["walnats-trace"] == "t"
    attributes = {name: value for name, value in headers.items() if name.startswith("ce-")}
    assert attributes == {
        "ce-id": "i", "ce-source": "/s", "ce-type": "t.v2", "ce-specversion": "1.0", "ce-time": "x", "ce-mine": "m",
    }  # fmt: skip
    assert (headers["traceparent"], headers["tracestate"], headers["x-own"]) == ("p", "s", "o")


def test_without_a_ce_id_the_uid_is_the_id_percent_encoded() -> None:
    assert sent({"Nats-Msg-Id": 'a "100%" b'})["ce-id"] == "a%20%22100%25%22%20b"
    assert sent({"Nats-Msg-Id": 'a "100%" b'})["walnats-uid"] == 'a "100%" b'


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [
        ({"Content-Type": "text/plain"}, "text/plain"),
        ({"content-TYPE": "text/plain"}, "text/plain"),
        ({"ce-datacontenttype": "text/csv"}, "text/csv"),
        ({"ce-datacontenttype": "text/csv", "Content-Type": "text/plain"}, "text/plain"),
        ({}, "application/json"),
    ],
)
def test_the_content_type_is_told_once_and_never_as_an_attribute(headers: dict[str, str], content_type: str) -> None:
    assert sent(headers)["content-type"] == content_type
    assert "ce-datacontenttype" not in sent(headers)


@pytest.mark.parametrize(
    "name",
    [
        "Nats-Expected-Stream", "nats-ttl", "Walnats-Delay", "Walnats-Reply", "walnats-attempt", "webhook-signature",
        "Host", "Content-Length", "Transfer-Encoding", "Connection", "Authorization", "Cookie", "Expect", "TE",
    ],
)  # fmt: skip
def test_reserved_headers_of_a_message_do_not_reach_the_actor(name: str) -> None:
    assert sent({name: "evil"}) == sent()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\nb", "a\x00", "ä", "(x)", "a,b"])
def test_a_header_whose_name_no_http_peer_would_take_is_left_out(name: str) -> None:
    """A strict receiver answered 400 to it, which made a dead letter of the message."""
    assert sent({name: "x", "ce-" + name: "x"} if name else {name: "x"}) == sent()


def test_the_actors_own_headers_win_over_the_messages() -> None:
    headers = sent({"X-Team": "message"}, configured={"X-Team": "logistics", "Authorization": "Bearer b"})
    assert headers["x-team"] == "logistics"
    assert headers["authorization"] == "Bearer b"
    assert "X-Team" not in headers


# ---- webhook-id


def test_the_webhook_id_is_one_per_message_and_actor() -> None:
    ids = {
        webhook_id(message({"Nats-Msg-Id": "u"}), "print"),
        webhook_id(message({"Nats-Msg-Id": "u"}), "other"),
        webhook_id(message({"Nats-Msg-Id": "v"}), "print"),
        webhook_id(message({"Nats-Msg-Id": "u"}, stream="x"), "print"),
        webhook_id(message({}), "print"),
        webhook_id(message({}, sequence=8), "print"),
    }
    assert len(ids) == 6
    assert all(id_.startswith("msg_") and int(id_[4:], 16) >= 0 and len(id_) == 36 for id_ in ids)


def test_the_webhook_id_is_the_same_where_the_message_is_stored_again() -> None:
    first, replayed = message({"Nats-Msg-Id": "u"}, sequence=7), message({"Nats-Msg-Id": "u"}, sequence=99)
    assert webhook_id(first, "print") == webhook_id(replayed, "print")
    assert webhook_id(first, "print") == "msg_d527e8bcf640a1f1c08428406a4c8232"


# ---- values


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('plain, with "marks" and 100%', 'plain, with "marks" and 100%'),
        ("F%C3%BC", "F%C3%BC"),  # encoded by the emitter; once is enough
        ("Fü", "F%C3%BC"),
        ("Euro € \U0001f600", "Euro %E2%82%AC %F0%9F%98%80"),
        ("a\r\nX-Evil: 1", "a%0D%0AX-Evil: 1"),
        ("a\x00\x7f\tb", "a%00%7F\tb"),
    ],
)
def test_what_a_header_value_can_not_carry_is_percent_encoded(value: str, written: str) -> None:
    """A lone line feed, which NATS can carry, was told as "the answer is not HTTP", twenty times."""
    assert in_ascii(value) == written
    assert sent({"X-Own": value})["x-own"] == written
    assert sent({"Content-Type": value})["content-type"] == written
    assert sent({"Walnats-Trace": value})["walnats-trace"] == written


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=5))
def test_no_stored_header_makes_a_request_that_is_not_http(headers: dict[str, str]) -> None:
    for name, value in sent(headers).items():
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name)
        assert re.fullmatch(r"[\t -~]*", value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000.123457, "2023-11-14T22:13:20.123457Z"),
        (1_700_000_000.999_999_9, "2023-11-14T22:13:21.000000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text
