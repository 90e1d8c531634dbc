"""What a dead letter carries, and how it is made to fit."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walnatsd.broker.dead_letters import HISTORY, MAX_HEAD_BYTES, Death, dead_letter_headers, fit
from walnatsd.broker.wire import head_of
from walnatsd.model.message import Message
from walnatsd.model.text import one_line

DEATH = Death(
    "print", "400: no such parcel", 400, 3, 1_700_000_100.5, {"complete": True, "attempts": [{"answer": "ü"}]}
)
MARK = "walnats-dead-letter-truncated"


def letter(headers: dict[str, str], death: Death = DEATH) -> dict[str, str]:
    message = Message("parcel.sent", b"{}", headers, "parcel-sent", 7, 1_700_000_000.25)
    return dead_letter_headers(message, death)


def test_a_dead_letter_says_whose_it_is_and_why() -> None:
    assert letter({"Nats-Msg-Id": "u", "ce-subject": "s", "Content-Type": "text/plain"}) == {
        "walnatsd-original-Nats-Msg-Id": "u",
        "ce-subject": "s",
        "Content-Type": "text/plain",
        "Nats-Msg-Id": "dlq:parcel-sent:print:7:0",
        "walnats-dead-letter-reason": "400: no such parcel",
        "walnats-dead-letter-status": "400",
        "walnats-dead-letter-attempts": "3",
        "walnats-dead-letter-uid": "u",
        "walnats-dead-letter-stored-at": "2023-11-14T22:13:20.250000Z",
        "walnats-dead-letter-last-attempt-at": "2023-11-14T22:15:00.500000Z",
        "walnats-dead-letter-stream": "parcel-sent",
        "walnats-dead-letter-sequence": "7",
        "walnats-dead-letter-event": "parcel.sent",
        "walnats-dead-letter-actor": "print",
        "walnats-dead-letter-history": '{"complete":true,"attempts":[{"answer":"\\u00fc"}]}',
    }


def test_without_an_answer_and_a_uid_both_are_empty() -> None:
    headers = letter({}, Death("print", "malformed", None, 0, 0.0))
    assert headers["walnats-dead-letter-status"] == ""
    assert headers["walnats-dead-letter-uid"] == ""


@pytest.mark.parametrize("name", ["Nats-Expected-Stream", "Nats-TTL", "nats-rollup", "NATS-Anything"])
def test_what_would_steer_the_server_is_renamed(name: str) -> None:
    headers = letter({name: "1"})
    assert headers[f"walnatsd-original-{name}"] == "1"
    assert [each for each in headers if each.lower().startswith("nats-")] == ["Nats-Msg-Id"]


def test_walnats_own_headers_stay_so_that_a_replay_can_honour_them() -> None:
    kept = {"Walnats-Delay": "1800000000", "Walnats-Trace": "t", "Walnats-Reply": "_INBOX.x", "traceparent": "p"}
    assert kept.items() <= letter(kept).items()


def test_a_message_can_not_write_its_own_obituary() -> None:
    """Of another case it stood beside the true one; a long one of another name could never be cut off."""
    forged = {"walnats-dead-letter-reason": "x", "Walnats-Dead-Letter-Actor": "x", "walnats-dead-letter-own": "x"}
    assert letter(forged) == letter({})
    assert letter({"Nats-Msg-Id": "dlq:x"})["Nats-Msg-Id"] == "dlq:parcel-sent:print:7:0"


# ---- fitting


def test_what_fits_stays_as_it_is() -> None:
    header = letter({"A": "1"})
    size = len(head_of(header)) + 3
    assert fit(header, b"abc", size) == (header, b"abc")


def without_history(header: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in header.items() if name != HISTORY}


def test_one_byte_too_many_cuts_the_history_and_says_so() -> None:
    header = letter({"A": "1"}, dataclasses.replace(DEATH, history={"attempts": ["x" * 200]}))
    assert fit(header, b"x" * 100, len(head_of(header)) + 99) == (
        without_history(header) | {MARK: "history"},
        b"x" * 100,
    )


def test_then_the_end_of_the_payload_goes() -> None:
    header = letter({"A": "1"})
    limit = len(head_of(without_history(header))) + 99
    kept, payload = fit(header, b"x" * 100, limit)
    assert kept == without_history(header) | {MARK: "history, payload"}
    assert 0 < len(payload) < 100
    assert limit - 64 < len(head_of(kept)) + len(payload) <= limit


def test_headers_that_leave_no_room_go_longest_first() -> None:
    """A message that used up the 64 KiB of headers could never become a dead letter."""
    header = letter({"Short": "s", "Long": "l" * 2000, "Longest": "x" * 64_000})
    kept, payload = fit(header, b"payload", 1 << 20)
    rest = {name: value for name, value in without_history(header).items() if name != "Longest"}
    assert kept == rest | {MARK: "history, headers"}
    assert payload == b"payload"


def test_headers_and_payload_may_both_have_to_go() -> None:
    kept, payload = fit(letter({"Long": "l" * 5000}), b"x" * 5000, 4096)
    assert "Long" not in kept
    assert kept[MARK] == "history, headers, payload"
    assert 0 < len(payload) < 4096


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from("ABCDEFGH"), st.integers(0, 40_000).map("ü".__mul__)),
    st.integers(0, 30),
    st.integers(0, 200_000),
    st.integers(4096, 1 << 20),
)
def test_the_server_takes_whatever_comes_out(
    headers: dict[str, str], history: int, size: int, max_payload: int
) -> None:
    header = letter(headers, dataclasses.replace(DEATH, history={"attempts": ["ü" * 1024] * history}))
    kept, payload = fit(header, bytes(size), max_payload)
    assert len(head_of(kept)) <= MAX_HEAD_BYTES
    assert len(head_of(kept)) + len(payload) <= max_payload
    assert (MARK in kept) == ((kept, payload) != (header, bytes(size)))
    assert without_history(letter({})).items() <= kept.items()
    assert kept.items() - header.items() <= {(MARK, kept.get(MARK))}


def test_even_the_longest_names_and_uid_fit() -> None:
    message = Message("e" * 255, b"", {"Nats-Msg-Id": "u" * 65_500}, "e" * 255, 1 << 63, 1.7e9)
    kept, _ = fit(dead_letter_headers(message, Death("a" * 255, "r" * 5000, 599, 20, 1.7e9)), b"", 1 << 20)
    assert len(head_of(kept)) < 8192
    assert kept[MARK] == "history, headers"


# ---- reasons


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\r\nlines\tand\x00more", "two lines and more"),
        ("Füße", "F e"),
        ("  around  ", "around"),
        ("", ""),
        ("\x7f", ""),
    ],
)
def test_a_reason_becomes_one_printable_line(text: str, line: str) -> None:
    assert one_line(text) == line


@given(st.text(max_size=3000))
def test_no_reason_breaks_a_header_block(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 1024
    assert line.isascii()
    assert line.isprintable()
    assert line == line.strip()
