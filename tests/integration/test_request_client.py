"""The Python client's `request` against the real daemon."""

import asyncio

import pytest

import walnatsd_client as walnatsd
from support.daemon import config_text, running

COUNT_WORDS = walnatsd.Event("count-words", str).with_response(int)


async def test_what_a_handler_returns_answers_the_request(nats) -> None:
    def count(text: str) -> int:
        if not text:
            raise walnatsd.Reject("no words")
        return len(text.split())

    actor = walnatsd.Actor("count", COUNT_WORDS, count)
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(COUNT_WORDS)
        with pytest.raises(walnatsd.ConflictError, match="NO_ACTORS"):
            await conn.request(COUNT_WORDS, "x")
        await conn.register(actor)
        listening = asyncio.create_task(conn.listen(actor))
        assert await conn.request(COUNT_WORDS, "some text", timeout=30) == 2
        with pytest.raises(walnatsd.DeadLetterError, match="no words"):
            await conn.request(COUNT_WORDS, "", timeout=30)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        with pytest.raises(walnatsd.NoResponseError):
            await conn.request(COUNT_WORDS, "nobody listens", timeout=0.3)
