"""Watchers of live feeds: bounded, never waited for, told why they end."""

import asyncio
import gzip
import tracemalloc

import pytest

from walnatsd.broker.wire import Frame
from walnatsd.model.event import Codec
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.monitor.watcher import MAX_BYTES, MAX_MESSAGES, Gap, Seen, Watcher
from walnatsd.payload.codecs import CodecError, Codecs, open_codecs

STOPPING = Refusal(Reason.STOPPING, "the daemon is stopping")


class Counting:
    """A codec that counts how often it is undone."""

    def __init__(self) -> None:
        self.undone = 0

    def encode(self, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, data: bytes) -> bytes:
        self.undone += 1
        if data == b"bad":
            raise CodecError("not ours")
        return data[::-1]


def seen(payload: bytes = b"x", head: bytes = b"", codec: Counting | None = None) -> Seen:
    codecs = Codecs([codec] if codec is not None else [])
    return Seen(Frame("counts", "", payload, head), event="a.b", stream="a-b", codecs=codecs, at=7.5)


async def is_dropped(watcher: Watcher) -> bool:
    with pytest.raises(Refusal) as caught:
        await watcher.take()
    return caught.value.reason is Reason.NOT_READING


async def test_a_watcher_takes_all_that_waits_in_order() -> None:
    watcher, offered = Watcher(), [seen(), Gap(), seen()]
    for each in offered:
        watcher.offer(each)
    assert await watcher.take() == offered
    taking = asyncio.create_task(watcher.take())
    await asyncio.sleep(0)
    assert not taking.done()
    watcher.offer(last := seen())
    assert await taking == [last]


async def test_one_message_more_than_may_wait_drops_the_watcher_and_what_waited() -> None:
    watcher = Watcher()
    for _ in range(MAX_MESSAGES):
        watcher.offer(seen())
    assert not watcher.is_slow
    watcher.offer(seen())
    assert watcher.is_slow
    watcher.offer(seen())
    assert await is_dropped(watcher)


async def test_one_byte_more_than_may_wait_drops_the_watcher() -> None:
    watcher, half = Watcher(), b"x" * (MAX_BYTES // 2)
    watcher.offer(seen(half))
    watcher.offer(seen(half))
    assert not watcher.is_slow
    watcher.offer(seen(b"x"))
    assert await is_dropped(watcher)


async def test_headers_count_as_bytes_and_what_was_taken_does_not() -> None:
    watcher = Watcher()
    for _ in range(3):
        watcher.offer(seen(b"", head=b"x" * (MAX_BYTES // 2 + 1)))
        await watcher.take()
    watcher.offer(seen(b"", head=b"x" * (MAX_BYTES // 2 + 1)))
    watcher.offer(seen(b"", head=b"x" * (MAX_BYTES // 2 + 1)))
    assert watcher.is_slow


async def test_a_single_message_larger_than_what_may_wait_is_shown_all_the_same() -> None:
    watcher = Watcher()
    watcher.offer(large := seen(b"x" * (MAX_BYTES + 1)))
    assert await watcher.take() == [large]


async def test_a_watcher_that_is_ended_takes_what_waits_first_and_then_hears_why() -> None:
    watcher = Watcher()
    watcher.offer(last := seen())
    watcher.end(STOPPING)
    watcher.end(Refusal(Reason.UNKNOWN_EVENT, "later"))
    watcher.offer(seen())
    assert await watcher.take() == [last]
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            await watcher.take()
        assert caught.value is STOPPING


async def test_a_message_is_decoded_once_for_all_watchers_and_only_when_one_looks() -> None:
    codec = Counting()
    shown = seen(b"cba", codec=codec)
    assert codec.undone == 0
    assert [shown.message.payload, shown.message.payload, shown.codec_error] == [b"abc", b"abc", ""]
    assert codec.undone == 1


async def test_what_can_not_be_decoded_is_shown_as_it_is_stored_with_the_reason() -> None:
    shown = seen(b"bad", codec=Counting())
    assert (shown.message.payload, shown.codec_error) == (b"bad", "not ours")


async def test_the_facts_of_a_message() -> None:
    message = seen(b"1", head=b"NATS/1.0\r\nNats-Msg-Id: u\r\nX-Mine: 1\r\n\r\n").message
    assert (message.event, message.stream, message.sequence, message.stored_at) == ("a.b", "a-b", 0, 7.5)
    assert (message.uid, message.headers["X-Mine"]) == ("u", "1")


def test_what_was_decompressed_to_be_looked_at_is_not_kept() -> None:
    """What may wait is counted as it is published; decoded, it may be a thousand times as large."""
    payload = gzip.compress(b"0" * (1 << 20))
    codecs = open_codecs([Codec.model_validate({"gzip": {}})], lambda _: "")
    waiting = [Seen(Frame("counts", "", payload, b""), event="a", stream="a", codecs=codecs, at=7.5) for _ in range(32)]
    tracemalloc.start()
    try:
        for each in waiting:
            assert len(each.message.payload) == 1 << 20
            assert not each.codec_error
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4 << 20
