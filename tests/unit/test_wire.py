"""Frames of the NATS protocol: header blocks, statuses, publish frames, ack subjects."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.broker.wire import (
    AckSubject,
    Frame,
    from_ns,
    head_of,
    parse_ack_subject,
    publish_frame,
    to_ns,
    word_frames,
)

names = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="-_"), min_size=1, max_size=20)
values = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40).map(str.strip)
tokens = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="-_"), min_size=1, max_size=20)


def frame(head: bytes) -> Frame:
    return Frame("counts", "", b"", head)


def test_a_frame_without_a_header_block_has_no_headers_and_no_status() -> None:
    assert frame(b"").headers() == {}
    assert frame(b"").status == 0
    assert frame(b"").description == ""
    assert head_of({}) == b""


def test_headers_are_read_as_they_were_written() -> None:
    head = head_of({"Nats-Msg-Id": "one", "ce-subject": "Füße", "Empty": ""})
    assert head == b"NATS/1.0\r\nNats-Msg-Id: one\r\nce-subject: F\xc3\xbc\xc3\x9fe\r\nEmpty: \r\n\r\n"
    assert frame(head).headers() == {"Nats-Msg-Id": "one", "ce-subject": "Füße", "Empty": ""}
    assert frame(head).status == 0


@given(st.dictionaries(names, values, max_size=8))
def test_any_headers_survive_a_round_trip(headers: dict[str, str]) -> None:
    assert frame(head_of(headers)).headers() == headers


@pytest.mark.parametrize(
    ("head", "headers"),
    [
        (b"NATS/1.0\r\nA:1\r\nB:   2  \r\nC:\r\n\r\n", {"A": "1", "B": "2", "C": ""}),
        (b"NATS/1.0\r\nA: x: y\r\n\r\n", {"A": "x: y"}),
        (b"NATS/1.0\r\nA: 1\r\nA: 2\r\na: 3\r\n\r\n", {"A": "2", "a": "3"}),
        (b"NATS/1.0\r\nno colon\r\nA: \xff\r\n\r\n", {"A": "\ufffd"}),
        (b"NATS/1.0\r\n\r\n", {}),
    ],
)
def test_header_blocks_of_others_are_read_leniently(head: bytes, headers: dict[str, str]) -> None:
    assert frame(head).headers() == headers
    assert frame(head).status == 0


@pytest.mark.parametrize(
    ("head", "status", "description"),
    [
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 3\r\n\r\n", 100, "Idle Heartbeat"),
        (b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 7\r\n\r\n", 408, "Request Timeout"),
        (b"NATS/1.0 409 Consumer Deleted\r\n\r\n", 409, "Consumer Deleted"),
        (b"NATS/1.0 503\r\n\r\n", 503, ""),
        (b"NATS/1.0 abc\r\n\r\n", 0, ""),
        (b"NATS/1.0 5", 0, ""),
    ],
)
def test_inline_statuses_are_told_from_messages(head: bytes, status: int, description: str) -> None:
    assert frame(head).status == status
    assert frame(head).description == description


@given(st.binary(max_size=60))
def test_no_header_block_is_an_exception(head: bytes) -> None:
    for each in (head, b"NATS/1.0 " + head, b"NATS/1.0\r\n" + head):
        assert 0 <= frame(each).status <= 999
        assert all(isinstance(value, str) for value in frame(each).headers().values())
        assert isinstance(frame(each).description, str)


def test_a_message_with_headers_is_an_hpub_with_both_lengths() -> None:
    head = head_of({"A": "1"})
    assert publish_frame("counts", "", b"", b"7") == b"PUB counts  1\r\n7\r\n"
    assert publish_frame("counts", "_INBOX.1", b"", b"") == b"PUB counts _INBOX.1 0\r\n\r\n"
    assert publish_frame("counts", "_INBOX.1", head, b"\r\n\x00") == (
        b"HPUB counts _INBOX.1 18 21\r\nNATS/1.0\r\nA: 1\r\n\r\n\r\n\x00\r\n"
    )


# ---- ack subjects (ADR-15)

PLAIN = "$JS.ACK.counts.print.3.17.21.1700000000250000000.4"
WITH_DOMAIN = "$JS.ACK.hub.A5oZ4Hcs.counts.print.3.17.21.1700000000250000000.4.Xy9wZ"


def test_one_word_to_many_subjects_is_as_many_frames() -> None:
    subjects = ["$JS.ACK.a.b.1.1.1.1.0", "$JS.ACK.a.b.1.2.2.1.0"]
    one_by_one = [publish_frame(subject, "_INBOX.1", b"", b"+ACK") for subject in subjects]
    assert word_frames(subjects, "_INBOX.1", "+ACK") == b"".join(one_by_one)


def test_blanks_around_the_value_of_a_header_go_and_others_stay() -> None:
    head = "NATS/1.0\r\nA: \t 1 2 \r\nB:\u00a0x\u00a0\r\nC:\r\nno colon\r\nA:last:one\r\n\r\n".encode()
    parsed = Frame("counts", "", b"", head).headers()
    assert parsed == {"A": "last:one", "B": "\u00a0x\u00a0", "C": ""}
    assert Frame("counts", "", b"", b"NATS/1.0\r\nA: \xff\xc3\r\n\r\n").headers() == {"A": "\ufffd\ufffd"}


FACTS = AckSubject("counts", "print", 3, 17, 1_700_000_000.25)


@pytest.mark.parametrize(
    "subject",
    [
        PLAIN,
        WITH_DOMAIN,
        WITH_DOMAIN.replace("hub", "_"),  # no domain, yet the long form
        WITH_DOMAIN.rpartition(".")[0],  # without the random token
        WITH_DOMAIN + ".more.to.come",
    ],
)
def test_an_ack_subject_is_read_with_and_without_a_domain(subject: str) -> None:
    assert parse_ack_subject(subject) == FACTS


@pytest.mark.parametrize(
    "subject",
    ["", "_INBOX.x.1", "$JS.ACK.counts.print", "$JS.API.counts.print.3.17.21.17.4", PLAIN.replace(".17.", ".x.", 1)],
)
def test_what_is_no_ack_subject_is_an_error(subject: str) -> None:
    with pytest.raises(ValueError):
        parse_ack_subject(subject)


@given(tokens, tokens, tokens, tokens, st.integers(1, 1 << 62), st.integers(1, 1 << 62), st.integers(0, 1 << 40))
def test_any_ack_subject_survives_a_round_trip(
    domain: str, account: str, stream: str, consumer: str, delivered: int, sequence: int, pending: int
) -> None:
    tail = f"{stream}.{consumer}.{delivered}.{sequence}.9.1700000000000000000.{pending}"
    facts = AckSubject(stream, consumer, delivered, sequence, 1.7e9)
    assert parse_ack_subject(f"$JS.ACK.{tail}") == facts
    assert parse_ack_subject(f"$JS.ACK.{domain}.{account}.{tail}.token") == facts


def test_a_time_in_nanoseconds_is_rounded_once() -> None:
    stored_ns = 1_795_567_639_885_905_142
    assert from_ns(stored_ns) == float(Decimal(stored_ns) / 10**9)
    assert from_ns(stored_ns) != stored_ns / 1e9  # which makes a float of the nanoseconds first


@given(st.floats(0, 9e9))
def test_a_duration_is_written_in_the_nearest_nanoseconds(seconds: float) -> None:
    exact = Decimal(seconds) * 10**9
    assert abs(to_ns(seconds) - exact) <= Decimal("0.5") + exact / 2**53
