"""The head of a request as it is sent: what comes out of the form is what is put together name by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd import __version__
from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.webhook import heads
from walnatsd.webhook.batch import batch_headers
from walnatsd.webhook.heads import Heads
from walnatsd.webhook.http_client import parsed
from walnatsd.webhook.request import delivery_headers, request_head

URL = parsed("http://actor:8000/hook?a=b")
PRINT = Actor(name="print", event="parcel.sent", url="http://actor:8000/hook?a=b")
LINE = "POST /hook?a=b HTTP/1.1"
ALWAYS = {"host": "actor:8000", "accept": "*/*", "user-agent": f"walnatsd/{__version__}"}
NAMES = st.sampled_from(
    [
        "Nats-Msg-Id", "Walnats-Trace", "Walnats-Reply", "Content-Type", "content-TYPE", "ce-datacontenttype", "ce-id", "CE-Source",
        "ce-type", "ce-time", "ce-subject", "traceparent", "X-Own", "x-own", "X-Team", "Accept", "User-Agent", "Host", "we ird", "Cookie",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=8), st.sampled_from(["application/cloudevents+json", "text/plain", "F%C3%BC", '"q"', "a\r\nx: y"])
)


def message(headers: dict[str, str], **options: Any) -> Message:
    given = {
        "event": "parcel.sent",
        "payload": b"{}",
        "stream": "parcel-sent",
        "sequence": 7,
        "stored_at": 1_700_000_000.25,
    }
    return Message(headers=headers, **(given | options))


def read(head: bytes) -> tuple[str, dict[str, str]]:
    """Read a head as a strict server does: a name that stands twice is an error."""
    text, end, rest = head.decode().partition("\r\n\r\n")
    assert (end, rest) == ("\r\n\r\n", "")
    line, *fields = text.split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    assert len({name for name, _ in pairs}) == len(pairs)
    return line, dict(pairs)  # type: ignore[arg-type]


def written(
    message: Message, *, keys: tuple[bytes, ...] = (), configured: dict[str, str] | None = None
) -> dict[str, str]:
    made = Heads(URL, PRINT, source="ware house", configured=configured or {}, signing_keys=keys)
    line, fields = read(made.of(message, 3))
    assert line == LINE
    return fields


@given(
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.dictionaries(st.sampled_from(["X-Team", "Authorization", "ce-subject", "ce-id", "Content-Type", "User-Agent"]), st.just("ours"), max_size=2),
    st.integers(0, 2),
)  # fmt: skip
def test_the_form_says_what_is_said_name_by_name(headers, configured, replay) -> None:
    sent = message(headers, replay=replay)
    expected = delivery_headers(sent, PRINT, attempt=3, source="ware house", configured=configured)
    assert written(sent, configured=configured) == {**ALWAYS, **expected, "content-length": "2"}


@pytest.mark.parametrize(
    "headers", [{}, {"Nats-Msg-Id": "u", "Content-Type": "text/plain", "X-Own": "o", "ce-subject": "s"}]
)
def test_most_heads_come_out_of_the_form(headers, monkeypatch) -> None:
    monkeypatch.setattr(heads, "delivery_headers", None)
    assert written(message(headers), configured={"Authorization": "Bearer b"})["authorization"] == "Bearer b"


def test_a_message_of_another_name_on_the_stream_is_told_by_its_own(monkeypatch) -> None:
    assert written(message({}, event="parcel-sent"))["walnats-event"] == "parcel-sent"
    assert written(message({}, event="parcel-sent"))["ce-type"] == "parcel-sent"


@pytest.mark.parametrize("headers", [{}, {"ce-id": "own"}])
def test_a_signature_is_of_the_id_that_is_sent(headers) -> None:
    fields = written(message(headers), keys=(b"k" * 24,))
    made = heads.signature_headers((b"k" * 24,), fields["webhook-id"], b"{}", now=float(fields["webhook-timestamp"]))
    assert made["webhook-signature"] == fields["webhook-signature"]


def test_a_batch_has_its_own_head() -> None:
    made = Heads(URL, PRINT, source="s", configured={"X-Team": "ours"}, signing_keys=())
    first, identities = message({}), ["parcel-sent-7", "b"]
    line, fields = read(made.of_batch(first, identities, b"[]", {"traceparent": "t", "tracestate": "a\nb"}))
    expected = batch_headers(first, identities, actor="print", configured={"x-team": "ours"})
    assert line == LINE
    assert fields == {**ALWAYS, "traceparent": "t", "tracestate": "a%0Ab", **expected, "content-length": "2"}


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\0b"])
def test_a_line_break_in_a_header_is_refused(value) -> None:
    """The config is checked and the messages' headers are encoded; here is the last door."""
    with pytest.raises(ValueError, match="a header holds a line break"):
        request_head("POST", URL, {"x-own": value})
    with pytest.raises(ValueError, match="a header holds a line break"):
        Heads(URL, PRINT, source="s", configured={"X-Own": value}, signing_keys=())


def test_what_a_configured_header_has_beyond_ascii_is_utf_8() -> None:
    assert written(message({}), configured={"X-Team": "Füße"})["x-team"] == "Füße"
