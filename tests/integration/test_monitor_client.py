"""The Python client's `monitor` against the real daemon."""

import asyncio
from datetime import UTC, datetime

import pytest

import walnatsd_client as walnatsd
from support.daemon import config_text, process, running
from support.waiting import until

COUNT = walnatsd.Event("counts", int)
WORD = walnatsd.Event("words", str)


async def following(feed: walnatsd.Feed[int]) -> walnatsd.Seen[int]:
    async with asyncio.timeout(20):
        return await anext(feed)


async def test_what_is_emitted_is_seen_typed(nats) -> None:
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(COUNT, WORD)
        async with conn.monitor(COUNT) as feed:
            began = datetime.now(UTC)
            await conn.emit(WORD, "not watched")
            await conn.emit(COUNT, 1, uid="one", trace_id="t", headers={"ce-subject": "s", "X-Mine": "1"})
            await sidecar.emit("counts", '"no number"')
            seen, odd = await following(feed), await following(feed)
    assert (seen.event, seen.message, seen.uid, seen.trace_id) == (COUNT, 1, "one", "t")
    assert (seen.payload, seen.content_type) == (b"1", "application/json")
    assert seen.headers == {"ce-subject": "s", "x-mine": "1"}
    assert abs((seen.seen_at - began).total_seconds()) < 60
    assert seen.codec_error == ""
    with pytest.raises(ValueError):
        _ = odd.message
    assert odd.payload == b'"no number"'


async def test_what_can_not_be_decoded_is_seen_and_has_no_message(nats) -> None:
    text = config_text(nats.url, events=[{"name": "counts", "codecs": [{"gzip": {}}]}])
    async with (
        running(text) as sidecar,
        walnatsd.connect(sidecar.grpc) as conn,
        nats.jetstream() as jetstream,
        conn.monitor(COUNT) as feed,
    ):
        await jetstream.publish("counts", b"1")
        seen = await following(feed)
    assert (seen.payload, seen.uid) == (b"1", "")
    with pytest.raises(ValueError, match="gzip: "):
        _ = seen.message


async def test_an_event_that_is_not_declared_can_not_be_watched(nats) -> None:
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        with pytest.raises(walnatsd.UnknownEventError):
            async with conn.monitor(COUNT):
                pass
        with pytest.raises(ValueError, match="one or more"):
            conn.monitor()


async def test_a_feed_goes_on_when_the_sidecar_restarts_and_what_it_has_forgotten_is_registered_again(
    nats, tmp_path
) -> None:
    text = config_text(nats.url, grpc={"listen": f"unix:{tmp_path}/grpc.sock"})
    async with process(tmp_path / "daemon", text) as daemon, walnatsd.connect(f"unix:{tmp_path}/grpc.sock") as conn:
        await conn.register(COUNT)
        async with conn.monitor(COUNT) as feed:
            await conn.emit(COUNT, 1)
            assert (await following(feed)).message == 1
            await daemon.end()
            waiting = asyncio.create_task(following(feed))
            sidecar = await daemon.start()
            await until(lambda: _watched(sidecar), timeout_s=20)
            await conn.emit(COUNT, 2)
            assert (await waiting).message == 2


async def _watched(sidecar) -> bool:
    return (await sidecar.metrics())["walnatsd_watchers"] == 1


async def test_a_reader_that_does_not_keep_up_hears_so(nats) -> None:
    big = walnatsd.Event("counts", bytes)
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(big)
        async with conn.monitor(big) as feed:
            await asyncio.gather(*(conn.emit(big, b"x" * 10_000, timeout=60) for _ in range(4000)))
            with pytest.raises(walnatsd.CapacityError) as caught:
                async with asyncio.timeout(60):
                    async for _ in feed:
                        pass
    assert caught.value.reason == "NOT_READING"


async def test_leaving_ends_the_feed_in_the_sidecar(nats) -> None:
    async with running(config_text(nats.url)) as sidecar, walnatsd.connect(sidecar.grpc) as conn:
        await conn.register(COUNT)
        async with conn.monitor(COUNT):
            assert await _watched(sidecar)
        await until(lambda: _left(sidecar))


async def _left(sidecar) -> bool:
    return (await sidecar.metrics())["walnatsd_watchers"] == 0


async def test_a_feed_whose_connection_is_closed_ends_with_an_error_and_cancels_nobody(nats) -> None:
    async def watch(conn: walnatsd.Connection) -> None:
        async with conn.monitor(COUNT) as feed:
            watching.set()
            await anext(feed)

    watching = asyncio.Event()
    async with running(config_text(nats.url)) as sidecar:
        async with walnatsd.connect(sidecar.grpc) as conn:
            await conn.register(COUNT)
            watcher = asyncio.create_task(watch(conn))
            await watching.wait()
        async with asyncio.timeout(20):
            with pytest.raises(walnatsd.UnavailableError, match="closed here"):
                await watcher
            with pytest.raises(walnatsd.UnavailableError, match="closed here"):
                await watch(conn)


async def test_a_feed_that_waits_for_its_sidecar_ends_when_its_connection_is_closed(tmp_path) -> None:
    async with walnatsd.connect(f"unix:{tmp_path}/nobody.sock") as conn:
        watcher = asyncio.create_task(conn.monitor(COUNT).__aenter__())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not watcher.done()
    async with asyncio.timeout(20):
        with pytest.raises(walnatsd.UnavailableError, match="closed here"):
            await watcher
