"""Live feeds over HTTP and gRPC: what is emitted is seen, as it is emitted, and who watches makes nobody wait."""

import asyncio
import contextlib
import json
import re
import socket
import time
from typing import Any

import grpc
import pytest

from support.daemon import Sidecar, config_text, process, running
from support.feeds import watching
from support.grpc_calls import Stubs, refused, stubs
from support.proxy import proxy
from support.waiting import until
from walnatsd.monitor import feeds
from walnatsd.servers import grpc_monitor, http_monitor
from walnatsd.v1 import events_pb2, message_pb2


def config(url: str, **parts: object) -> str:
    return config_text(url, events=[{"name": "counts"}, {"name": "a.b"}], **parts)


@contextlib.asynccontextmanager
async def monitoring(both: Stubs, *names: str) -> Any:
    """A feed over gRPC; given when it has begun."""
    call = both.events.Monitor(events_pb2.MonitorRequest(events=names))
    assert ("walnats-watching", "1") in [tuple(pair) for pair in await call.initial_metadata()]
    try:
        yield call
    finally:
        call.cancel()


async def read(call: Any) -> message_pb2.Message:
    async with asyncio.timeout(20):
        message = await call.read()
    assert isinstance(message, message_pb2.Message)
    return message


async def ending(call: Any) -> Any:
    """Read to the end; what the refusal says."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(60):
            while True:
                assert await call.read() is not grpc.aio.EOF
    return refused(caught.value)


async def watchers(sidecar: Sidecar) -> float:
    return (await sidecar.metrics())["walnatsd_watchers"]


# ---- what is seen


async def test_what_is_emitted_is_seen_as_a_cloudevent(nats) -> None:
    headers = {
        "ce-id": "7", "ce-source": "/shop", "ce-subject": "caf%C3%A9", "traceparent": "00-aa-bb-01",
        "walnats-header-X-Mine": "1",
    }  # fmt: skip
    async with running(config(nats.url)) as sidecar, watching(sidecar, "counts") as feed:
        began = time.time()
        await sidecar.emit(
            "counts", '{"n": 10000000000000000001,\r\n "s": "x"}', uid="u", trace_id="t", headers=headers
        )
        seen = await feed.message()
        await sidecar.emit("counts", b"\xff", uid="v", headers={"Content-Type": "image/png"})
        binary = await feed.message()
    assert began - 1 < _epoch(seen.pop("time")) < time.time() + 1
    assert seen == {
        "id": "7", "source": "/shop", "type": "counts", "specversion": "1.0", "subject": "café",
        "datacontenttype": "application/json", "data": {"n": 10000000000000000001, "s": "x"},
        "traceparent": "00-aa-bb-01", "walnatsevent": "counts", "walnatsuid": "u", "walnatstrace": "t",
    }  # fmt: skip
    binary.pop("time")
    assert binary == {
        "id": "v", "source": "tests", "type": "counts", "specversion": "1.0", "datacontenttype": "image/png",
        "data_base64": "/w==", "walnatsevent": "counts", "walnatsuid": "v",
    }  # fmt: skip


def _epoch(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


async def test_what_is_emitted_is_seen_over_grpc_with_the_emitters_headers_and_no_others(nats) -> None:
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both, monitoring(both, "counts") as call:
        emit = events_pb2.EmitRequest(
            event="counts", payload=b"\x00\xff", content_type="image/png", uid="u", trace_id="t",
            headers={"X-Mine": "1", "ce-subject": "s"},
        )  # fmt: skip
        began = time.time()
        await both.events.Emit(emit)
        seen = await read(call)
    assert began - 1 < seen.stored_at.ToMicroseconds() / 1e6 < time.time() + 1
    seen.ClearField("stored_at")
    assert seen == message_pb2.Message(
        event="counts", payload=b"\x00\xff", content_type="image/png", uid="u", trace_id="t",
        headers={"x-mine": "1", "ce-subject": "s"},
    )  # fmt: skip


async def test_several_events_or_all_can_be_watched_at_once(nats) -> None:
    text = config_text(nats.url, events=[{"name": name} for name in ("counts", "a.b", "other")])
    async with (
        running(text) as sidecar,
        stubs(sidecar.grpc) as both,
        monitoring(both, "counts", "a.b", "counts") as some,
        monitoring(both) as everything,
    ):
        for event in ("other", "counts", "a.b"):
            await sidecar.emit(event, "1")
        assert [(await read(some)).event for _ in range(2)] == ["counts", "a.b"]
        assert [(await read(everything)).event for _ in range(3)] == ["other", "counts", "a.b"]


async def test_a_feed_sees_what_is_published_so_duplicates_and_what_nobody_keeps_too(nats) -> None:
    async with running(config(nats.url)) as sidecar, watching(sidecar, "counts") as feed:
        for _ in range(2):
            await sidecar.emit("counts", "1", uid="u")
        assert [(await feed.message())["walnatsuid"] for _ in range(2)] == ["u", "u"]
        async with nats.jetstream() as jetstream:
            info = await jetstream.stream_info("counts")
    assert info.state.messages == 0
    assert info.state.consumer_count == 0


async def test_a_message_without_a_uid_has_an_id_of_its_own(nats) -> None:
    async with running(config(nats.url)) as sidecar, watching(sidecar, "counts") as feed, nats.jetstream() as jetstream:
        for _ in range(2):
            await jetstream.publish("counts", b"1")
        first, second = await feed.message(), await feed.message()
    assert first["id"] != second["id"]
    assert "walnatsuid" not in first


async def test_codecs_are_undone_and_what_can_not_be_is_shown_as_it_is_stored(nats) -> None:
    text = config_text(nats.url, events=[{"name": "counts", "codecs": [{"gzip": {"level": 9}}]}])
    async with (
        running(text) as sidecar,
        stubs(sidecar.grpc) as both,
        nats.jetstream() as jetstream,
        watching(sidecar, "counts") as feed,
        monitoring(both, "counts") as call,
    ):
        await sidecar.emit("counts", '{"n":1}')
        await jetstream.publish("counts", b"never encoded")
        seen, odd = await feed.message(), await feed.message()
        by_grpc, odd_by_grpc = await read(call), await read(call)
    assert (seen["data"], "walnatscodecerror" in seen) == ({"n": 1}, False)
    assert odd["data_base64"] == "bmV2ZXIgZW5jb2RlZA=="
    assert odd["walnatscodecerror"].startswith("gzip: ")
    assert (by_grpc.payload, by_grpc.codec_error) == (b'{"n":1}', "")
    assert (odd_by_grpc.payload, odd_by_grpc.codec_error) == (b"never encoded", odd["walnatscodecerror"])


async def test_watchers_of_one_event_share_one_subscription_that_goes_with_the_last_of_them(nats) -> None:
    async with proxy(nats.port) as way, running(config(way.url)) as sidecar, stubs(sidecar.grpc) as both:
        async with watching(sidecar, "counts") as first, monitoring(both, "counts"):
            async with watching(sidecar, "counts") as second:
                assert await watchers(sidecar) == 3
                await sidecar.emit("counts", "1")
                assert (await first.message())["data"] == (await second.message())["data"] == 1
            [sid] = re.findall(rb"^SUB counts +(\d+)", way.requests, re.MULTILINE)
            await sidecar.emit("counts", "2")
            assert (await first.message())["data"] == 2
            assert b"UNSUB " + sid not in way.requests
        await until(lambda: _gone(sidecar))
        await until(lambda: b"UNSUB " + sid in way.requests)
        assert len(re.findall(rb"^SUB counts ", way.requests, re.MULTILINE)) == 1


async def _is(value: Any, expected: float) -> bool:
    return await value == expected


async def _gone(sidecar: Sidecar) -> bool:
    await sidecar.emit("counts", "3")  # that a reader has gone is noticed when something is written
    return await watchers(sidecar) == 0


# ---- who may not watch


async def test_an_event_that_is_not_declared_can_not_be_watched(nats) -> None:
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both:
        for name, reason, status in (("nobody", "UNKNOWN_EVENT", 404), ("no%20name", "INVALID_NAME", 400)):
            async with sidecar.session.get(f"http://{sidecar.http}/v1/events/{name}/monitor") as response:
                assert (response.status, (await response.json(content_type=None))["reason"]) == (status, reason)
        for name, reason in (("nobody", "UNKNOWN_EVENT"), ("", "INVALID_NAME"), ("no name", "INVALID_NAME")):
            told = await ending(both.events.Monitor(events_pb2.MonitorRequest(events=["counts", name])))
            assert told.reason == reason
        assert await watchers(sidecar) == 0


async def test_bytes_that_are_no_request_are_refused_in_words(nats) -> None:
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both:
        call = both.channel.unary_stream("/walnatsd.v1.Events/Monitor")
        told = await ending(call(b"\xff\xff\xff"))
    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_no_more_watch_than_the_daemon_bears(nats, monkeypatch) -> None:
    monkeypatch.setattr(feeds, "MAX_WATCHERS", 1)
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both, watching(sidecar, "counts"):
        assert (await ending(both.events.Monitor(events_pb2.MonitorRequest()))).reason == "BUSY"


async def test_without_nats_there_is_nothing_to_watch_and_that_is_told(nats, monkeypatch) -> None:
    monkeypatch.setattr(feeds, "START_TIMEOUT_S", 0.2)
    await nats.stop()
    async with running(config(nats.url), ready=False) as sidecar, stubs(sidecar.grpc) as both:
        told = await ending(both.events.Monitor(events_pb2.MonitorRequest()))
        assert (told.code, told.reason) == ("UNAVAILABLE", "NATS_UNAVAILABLE")
        assert await watchers(sidecar) == 0


async def test_a_page_of_another_site_can_not_watch_and_one_that_may_call_can_read(nats) -> None:
    async with running(config(nats.url)) as sidecar:
        url = f"http://{sidecar.http}/v1/events/counts/monitor"
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            async with sidecar.session.get(url, headers=headers) as response:
                assert response.status == 403
        async with watching(sidecar, "counts", Origin="http://localhost:3000") as feed:
            assert feed.response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        async with watching(sidecar, "counts") as feed:
            assert "Access-Control-Allow-Origin" not in feed.response.headers


# ---- slow watchers


async def test_a_slow_watcher_over_grpc_is_dropped_with_a_word_and_emits_go_on(nats) -> None:
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both, monitoring(both, "counts") as call:
        payload = b"x" * 10_000
        for _ in range(3):
            await _emit_many(both, payload, 1000)
        told = await ending(call)
        assert (told.code, told.reason) == ("RESOURCE_EXHAUSTED", "NOT_READING")
        assert "too slow" in told.message or "has not read" in told.message
        await until(lambda: _is(watchers(sidecar), 0))
        assert (await sidecar.metrics())["walnatsd_watchers_dropped_total"] == 1


async def _emit_many(both: Stubs, payload: bytes, count: int) -> None:
    items = [events_pb2.EmitRequest(event="counts", payload=payload) for _ in range(count)]
    answer = await both.events.EmitBatch(events_pb2.EmitBatchRequest(items=items))
    assert all(item.HasField("ok") for item in answer.items)


async def test_a_watcher_over_grpc_that_never_reads_is_dropped_and_does_not_hold_up_a_stop(nats, monkeypatch) -> None:
    monkeypatch.setattr(grpc_monitor, "READ_TIMEOUT_S", 0.5)
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both, monitoring(both, "counts"):
        for _ in range(12):
            await _emit_many(both, b"x" * 100_000, 10)
        await until(lambda: _is(watchers(sidecar), 0))
        assert (await sidecar.metrics())["walnatsd_watchers_dropped_total"] == 1


async def test_a_slow_watcher_over_http_hears_why_it_is_dropped(nats) -> None:
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both, watching(sidecar, "counts") as feed:
        for _ in range(4):
            await _emit_many(both, b"x" * 10_000, 1000)
        name, data = await feed.next()
        while name == "message":
            name, data = await feed.next()
        with pytest.raises(EOFError):
            await feed.next()
    assert name == "end"
    assert (data["reason"], data["status"]) == ("NOT_READING", 429)
    assert "too slow" in data["detail"]


async def test_a_watcher_over_http_that_never_reads_is_cut_off(nats, monkeypatch) -> None:
    monkeypatch.setattr(http_monitor, "WRITE_TIMEOUT_S", 0.5)
    async with running(config(nats.url)) as sidecar, stubs(sidecar.grpc) as both:
        host, port = sidecar.http.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(b"GET /v1/events/counts/monitor HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: _is(watchers(sidecar), 1))
            for _ in range(20):
                await _emit_many(both, b"x" * 100_000, 50)
                if await watchers(sidecar) == 0:
                    break
            await until(lambda: _is(watchers(sidecar), 0))
        assert (await sidecar.metrics())["walnatsd_watchers_dropped_total"] == 1


async def test_a_watcher_that_is_gone_without_a_word_is_noticed_in_silence(nats, monkeypatch) -> None:
    monkeypatch.setattr(http_monitor, "HEARTBEAT_S", 0.05)
    async with running(config(nats.url)) as sidecar:
        async with watching(sidecar, "counts") as feed:
            reading = asyncio.create_task(feed.next())
            await until(lambda: feed.heartbeats >= 3)
            reading.cancel()
        await until(lambda: _is(watchers(sidecar), 0))


# ---- outages, reloads and stops


async def test_a_feed_goes_on_after_a_reconnect_and_over_http_the_gap_is_told(nats) -> None:
    async with (
        proxy(nats.port) as way,
        running(config(way.url)) as sidecar,
        stubs(sidecar.grpc) as both,
        watching(sidecar, "counts") as feed,
        monitoring(both, "counts") as call,
    ):
        await way.cut()
        name, data = await feed.next()
        assert (name, list(data)) == ("gap", ["detail"])
        await sidecar.emit("counts", "1")
        assert (await feed.message())["data"] == 1
        assert (await read(call)).payload == b"1"


async def test_a_restarted_nats_is_watched_again(nats) -> None:
    async with running(config(nats.url)) as sidecar, watching(sidecar, "counts") as feed:
        await nats.stop()
        await nats.start()
        assert (await feed.next())[0] == "gap"
        await sidecar.emit("counts", "1")
        assert (await feed.message())["data"] == 1


async def test_an_event_that_a_reload_takes_away_ends_its_feed(nats, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(config(nats.url))
    async with running(file.read_text(), file=str(file)) as sidecar, watching(sidecar, "counts") as feed:
        file.write_text(config_text(nats.url, events=[{"name": "a.b"}]))
        async with sidecar.session.post(f"http://{sidecar.admin}/admin/v1/reload") as response:
            assert response.status == 200, await response.text()
        async with nats.jetstream() as jetstream:
            await jetstream.publish("counts", b"1")
        name, data = await feed.next()
    assert (name, data["reason"]) == ("end", "UNKNOWN_EVENT")


async def test_watchers_end_at_a_stop_with_a_word_and_do_not_hold_it_up(nats, tmp_path) -> None:
    async with process(tmp_path, config(nats.url, shutdown_timeout=30)) as daemon:
        sidecar = daemon.sidecar
        assert sidecar is not None
        async with watching(sidecar, "counts") as feed, stubs(sidecar.grpc) as both, monitoring(both) as call:
            daemon.send_signal(15)
            name, data = await feed.next()
            told = await ending(call)
        assert await daemon.wait() == 0
    assert (name, data["reason"], told.reason) == ("end", "STOPPING", "STOPPING")


async def test_a_deaf_watcher_does_not_hold_up_a_stop(nats, tmp_path) -> None:
    async with process(tmp_path, config(nats.url, shutdown_timeout=3)) as daemon:
        sidecar = daemon.sidecar
        assert sidecar is not None
        host, port = sidecar.http.rsplit(":", 1)
        async with stubs(sidecar.grpc) as both, monitoring(both, "counts"):
            with socket.create_connection((host, int(port))) as deaf:
                deaf.sendall(b"GET /v1/events/counts/monitor HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await until(lambda: _is(watchers(sidecar), 2))
                for _ in range(10):
                    await _emit_many(both, b"x" * 100_000, 50)
                daemon.send_signal(15)
                assert await daemon.wait() == 0  # which it waits for, for a minute


async def test_json_of_the_feed_is_the_emitters_byte_for_byte(nats) -> None:
    odd = '{"a":1.0,"a":2,"big":123456789012345678901234567890}'
    async with running(config(nats.url)) as sidecar, watching(sidecar, "counts") as feed:
        await sidecar.emit("counts", odd)
        line = b""
        while not line.startswith(b"data: "):
            line = await feed.response.content.readline()
    assert odd.encode() in line
    json.loads(line.removeprefix(b"data: "))
