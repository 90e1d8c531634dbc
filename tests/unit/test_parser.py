"""The parser beside the library's own: the same operations, however they are split, whoever takes them."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from walnatsd.broker.parser import FrameParser
from walnatsd.broker.wire import Frame

OURS, THEIRS, KEY = 1, 2, b"1"
"""Subscriptions: one whose frames we take, and one of the library's own; the first as a line of a message has it."""


class Client:
    """Notes what it is told, as the library's client would take it."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.failures: list[Exception] = []

    def take(self, frame: Frame) -> None:
        """Be the sink of a subscription."""
        self.told.append((OURS, frame.subject.encode(), frame.reply.encode(), frame.payload, frame.head))

    def take_same(self, frame: Frame, times: int) -> None:
        """Be told at once of a frame that came so many times."""
        assert times > 0
        for _ in range(times):
            self.take(frame)

    def fail_sink(self, error: Exception) -> None:
        self.failures.append(error)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.told.append((sid, subject, reply, data, headers or b""))

    async def _process_ping(self) -> None:
        self.told.append(("PING",))

    async def _process_pong(self) -> None:
        self.told.append(("PONG",))

    async def _process_err(self, text: str) -> None:
        self.told.append(("-ERR", text))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.told.append(("INFO", info))


subjects = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x17F, exclude_categories=["Cc", "Zs"]), min_size=1)
payloads = st.binary(max_size=80) | st.sampled_from([b"", b"\r\n", b"PING\r\n", b"MSG a 1 2\r\nhi\r\n", bytes(5000)])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    sid, payload = draw(st.sampled_from([OURS, THEIRS])), draw(payloads)
    words = [draw(subjects), str(sid), *draw(st.lists(subjects, max_size=1))]
    if head := draw(st.sampled_from([b"", b"NATS/1.0\r\nA: 1\r\n\r\n", b"NATS/1.0 503\r\n\r\n"])):
        line = " ".join(["HMSG", *words, str(len(head)), str(len(head) + len(payload))])
    else:
        line = " ".join(["MSG", *words, str(len(payload))])
    return line.encode() + b"\r\n" + head + payload + b"\r\n"


others = st.sampled_from(
    [
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"-ERR 'Stale Connection'\r\n",
        b"INFO " + json.dumps({"max_payload": 1 << 20, "version": "2.15.1"}).encode() + b"\r\n",
    ]
)


def run(parser: Parser, client: Client, pieces: list[bytes]) -> list[tuple[Any, ...]]:
    async def parse() -> None:
        for piece in pieces:
            await parser.parse(piece)

    asyncio.run(parse())
    return client.told


def ours(pieces: list[bytes]) -> list[tuple[Any, ...]]:
    client = Client()
    return run(FrameParser(client, {KEY: client.take}), client, pieces)


def counted(pieces: list[bytes]) -> list[tuple[Any, ...]]:
    client = Client()
    return run(FrameParser(client, {KEY: client.take}, {KEY: client.take_same}), client, pieces)


def theirs(pieces: list[bytes]) -> list[tuple[Any, ...]]:
    client = Client()
    return run(Parser(client), client, pieces)


@given(st.lists(st.tuples(messages() | others, st.integers(1, 3)), min_size=1, max_size=12), st.data())
def test_what_arrives_is_what_the_library_reads_however_it_is_split(operations, data) -> None:
    whole = b"".join(operation * times for operation, times in operations)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert ours(pieces) == ours([whole]) == counted(pieces) == counted([whole]) == theirs([whole])


def test_byte_by_byte_all_arrives() -> None:
    whole = b"MSG a 1 2\r\nhi\r\nPING\r\nHMSG b 1 r 12 15\r\nNATS/1.0\r\n\r\nyou\r\nMSG c 2 0\r\n\r\nPONG\r\n"
    assert ours([whole[place : place + 1] for place in range(len(whole))]) == [
        (1, b"a", b"", b"hi", b""),
        ("PING",),
        (1, b"b", b"r", b"you", b"NATS/1.0\r\n\r\n"),
        (2, b"c", b"", b"", b""),
        ("PONG",),
    ]


def test_a_subject_that_is_no_utf_8_is_a_message_like_any_other() -> None:
    """Whoever may publish can write into the reply subject what it likes; that must not end the daemon."""
    client = Client()
    run(FrameParser(client, {KEY: client.take}), client, [b"MSG a 1 \xff\xfe 2\r\nhi\r\n"])
    assert client.failures == []
    assert [payload for _, _, _, payload, _ in client.told] == [b"hi"]


def test_what_a_sink_raises_is_told_and_the_next_message_arrives() -> None:
    client = Client()
    error = RuntimeError("a fault of the sink")

    def sink(frame: Frame) -> None:
        if frame.payload == b"bad":
            raise error
        client.take(frame)

    run(FrameParser(client, {KEY: sink}), client, [b"MSG a 1 3\r\nbad\r\nMSG a 1 4\r\ngood\r\n"])
    assert client.failures == [error]
    assert [payload for _, _, _, payload, _ in client.told] == [b"good"]


def test_empty_messages_that_are_all_alike_are_counted_for_who_counts() -> None:
    """They are the confirmations of a batch of acks."""
    counts: list[tuple[str, int]] = []
    client = Client()

    def tally(frame: Frame, times: int) -> None:
        counts.append((frame.subject, times))
        if frame.subject == "b":
            raise RuntimeError("a fault of who counts")

    line, other = b"MSG a 1 0\r\n\r\n", b"MSG b 1 0\r\n\r\n"
    run(
        FrameParser(client, {KEY: client.take}, {KEY: tally}),
        client,
        [line * 4 + other * 3 + line, b"MSG c 1 0\r\n\r\n"],
    )
    assert [subject for _, subject, *_ in client.told] == [b"a", b"b", b"a", b"c"]
    assert counts == [("a", 3), ("b", 2)]
    assert len(client.failures) == 1


def test_empty_messages_that_are_all_alike_arrive_one_by_one_though_their_sink_fails() -> None:
    client, count = Client(), 0

    def sink(frame: Frame) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("a fault of the sink")
        client.take(frame)

    run(FrameParser(client, {KEY: sink}), client, [b"MSG a.7 1 0\r\n\r\n" * 4 + b"MSG a.70 1 0\r\n\r\nMSG a"])
    assert [subject for _, subject, *_ in client.told] == [b"a.7", b"a.7", b"a.7", b"a.70"]
    assert len(client.failures) == 1


def test_what_is_left_of_a_connection_that_is_gone_is_forgotten() -> None:
    client = Client()
    parser = FrameParser(client, {KEY: client.take})
    run(parser, client, [b"MSG a 1 10\r\nhalf"])
    parser.reset()
    assert run(parser, client, [b"MSG b 1 2\r\nhi\r\n"]) == [(1, b"b", b"", b"hi", b"")]


def test_what_was_read_with_the_end_of_a_connection_is_not_taken_for_the_next_one() -> None:
    """An error makes the client connect anew, which resets the parser while it parses."""

    class Leaving(Client):
        async def _process_err(self, text: str) -> None:
            await super()._process_err(text)
            parser.reset()

    client = Leaving()
    parser = FrameParser(client, {KEY: client.take})
    run(parser, client, [b"-ERR 'Stale Connection'\r\nMSG a 1 10\r\nha"])
    assert run(parser, client, [b"MSG b 1 2\r\nhi\r\n"]) == [("-ERR", "'stale connection'"), (1, b"b", b"", b"hi", b"")]


@pytest.mark.parametrize(
    "line",
    [b"HELLO", b"", b"MSG", b"MSG a 1", b"MSG a one 2", b"MSG a 1 -5", b"HMSG a 1 5 2", b"HMSG a 1 -1 2", b"MSG a 1 x"],
)
def test_what_is_not_the_protocol_is_an_error(line) -> None:
    client = Client()
    with pytest.raises(ProtocolError):
        run(FrameParser(client, {KEY: client.take}), client, [line + b"\r\nhi\r\n"])
