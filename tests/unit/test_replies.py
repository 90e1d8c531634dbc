"""Replies to requests, and to many requests at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from walnatsd.broker import replies as module
from walnatsd.broker.errors import NoReplyError, NoRespondersError
from walnatsd.broker.replies import Replies
from walnatsd.broker.wire import Frame


def frame(subject: str, head: bytes = b"") -> Frame:
    return Frame(subject, "", b"", head)


@contextlib.asynccontextmanager
async def sweeping(replies: Replies) -> AsyncIterator[None]:
    sweep = asyncio.create_task(replies.sweep())
    try:
        yield
    finally:
        sweep.cancel()
        await asyncio.wait([sweep])


async def test_many_replies_are_there_when_the_last_one_is() -> None:
    replies = Replies("_INBOX.x.r")
    subject, future = replies.expect_all(3, 5.0, "$JS.ACK.a")
    alone, other = replies.expect(5.0, "$JS.API.x")
    for _ in range(2):
        replies.receive(frame(subject))
    assert not future.done()
    replies.receive(frame(alone))
    assert other.done()
    replies.receive(frame(subject))
    assert future.done()
    assert replies.waiting == 0
    replies.receive(frame(subject))  # one too many harms nobody
    assert await future == frame(subject)


@pytest.mark.parametrize("together", [1, 2, 3, 4])
async def test_replies_that_came_together_are_counted_down_together(together: int) -> None:
    replies = Replies("_INBOX.x.r")
    subject, future = replies.expect_all(4, 5.0, "$JS.ACK.a")
    replies.receive(frame(subject), together)
    assert future.done() is (together == 4)
    replies.receive(frame(subject), 4 - together)
    assert future.done()
    assert replies.waiting == 0


async def test_one_of_many_that_nobody_listens_to_fails_all_of_them() -> None:
    replies = Replies("_INBOX.x.r")
    subject, future = replies.expect_all(3, 5.0, "$JS.ACK.a")
    replies.receive(frame(subject))
    replies.receive(frame(subject, b"NATS/1.0 503\r\n\r\n"))
    with pytest.raises(NoRespondersError):
        await future
    replies.receive(frame(subject))
    assert replies.waiting == 0


async def test_one_of_many_that_does_not_come_fails_all_of_them(monkeypatch) -> None:
    monkeypatch.setattr(module, "SWEEP_INTERVAL_S", 0.01)
    replies = Replies("_INBOX.x.r")
    async with sweeping(replies):
        subject, future = replies.expect_all(2, 0.05, "$JS.ACK.a")
        replies.receive(frame(subject))
        with pytest.raises(NoReplyError):
            await future
    assert replies.waiting == 0


async def test_a_connection_that_breaks_tells_who_waits_for_many_and_what_was_counted_is_forgotten() -> None:
    replies = Replies("_INBOX.x.r")
    subject, future = replies.expect_all(2, 5.0, "$JS.ACK.a")
    replies.receive(frame(subject))
    replies.break_off()
    with pytest.raises(NoReplyError):
        await future
    assert not replies._left


async def test_a_group_is_told_once_of_each_of_its_own_that_is_waited_for_no_longer(monkeypatch) -> None:
    monkeypatch.setattr(module, "SWEEP_INTERVAL_S", 0.01)
    told: list[int] = []
    replies = Replies("_INBOX.x.r", on_group=lambda: told.append(replies.waiting))
    answered, _ = replies.expect(5.0, "a", in_group=True)
    refused, _ = replies.expect(5.0, "a", in_group=True)
    _, late = replies.expect(0.0, "a", in_group=True)
    replies.expect(5.0, "a", in_group=True)
    alone, _ = replies.expect(5.0, "a")
    replies.receive(frame(answered))
    replies.receive(frame(answered))
    replies.receive(frame(refused, b"NATS/1.0 503\r\n\r\n"))
    replies.receive(frame(alone))
    assert len(told) == 2
    async with sweeping(replies):
        with pytest.raises(NoReplyError):
            await late
    assert len(told) == 3
    replies.break_off()
    assert len(told) == 4
