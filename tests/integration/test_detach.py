"""Ending a subscription while its task is being cancelled."""

import asyncio

import pytest

from walnatsd.broker.client import Client


async def test_a_cancellation_that_comes_together_with_the_pong_is_not_swallowed(nats, monkeypatch) -> None:
    client = Client()
    await client.connect(nats.url)
    process_pong = client._process_pong

    async def cancel_with_the_pong() -> None:
        await process_pong()
        detaching.cancel()

    try:
        sid = await client.attach("some.subject", lambda _frame: None)
        await client.flush()
        monkeypatch.setattr(client, "_process_pong", cancel_with_the_pong)
        detaching = asyncio.create_task(client.detach(sid))
        with pytest.raises(asyncio.CancelledError):
            await detaching
    finally:
        await client.close()
