"""Bytes that are no good HTTP, or good HTTP for nothing that is here: a clear answer, and nothing stored."""

import asyncio
import json

from support.daemon import config_text, process, running
from support.raw_http import send
from support.streams import keep_messages, stored

HEAD = b"POST /v1/events/counts HTTP/1.1\r\nHost: localhost\r\n"
ONE = b"Content-Length: 1\r\n\r\n1"


MALFORMED = [
    (HEAD + b"walnats-header-X: a\rb\r\n" + ONE, "header value"),
    (HEAD + b"walnats-header-X: a\nNats-Rollup: all\r\n" + ONE, "header value"),
    (HEAD + b"walnats-header-X: a\0b\r\n" + ONE, "header value"),
    (HEAD + b"walnats-header-X: a\x1bb\r\n" + ONE, "header value"),
    (HEAD + b"walnats-header-X: a\r\n folded\r\n" + ONE, "header value"),
    (HEAD + b"walnats-header-X Y: a\r\n" + ONE, "header token"),
    (HEAD + b"Host: localhost\r\n" + ONE, "Host"),
    (b"POST /v1/events/counts HTTP/1.1\r\n" + ONE, "Host"),
    (HEAD + b"Content-Length: 2\r\n" + ONE, "Content-Length"),
    (HEAD + b"Content-Length: -1\r\n\r\n", "Content-Length"),
    (HEAD + b"Transfer-Encoding: chunked\r\n" + ONE, "Transfer-Encoding"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n1\r\n0\r\n\r\n", "chunk size"),
    (HEAD + b"ce-long: " + b"a" * 20000 + b"\r\n" + ONE, "more than 8190 bytes"),
    (HEAD + b"".join(b"ce-a%d: 1\r\n" % n for n in range(200)) + ONE, "Too many headers"),
    (b"POST /v1/events/" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n" + ONE, "more than 8190 bytes"),
    (HEAD + b"Content-Type: a/b\r\nContent-Type: c/d\r\n" + ONE, "Content-Type"),
    (b"hello\r\n\r\n", "method"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "HTTPS traffic"),
]


async def test_malformed_http_is_answered_with_400_in_words(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        for raw, words in MALFORMED:
            status, headers, body = await send(sidecar.http, raw)
            told = json.loads(body)
            assert (status, headers["content-type"]) == (400, "application/problem+json"), (raw[:200], status, body)
            assert (told["status"], told["reason"], told["maybe_stored"]) == (400, "INVALID_REQUEST", False)
            assert words in told["detail"], (raw[:200], told)
            assert "\n" not in told["detail"]
        await sidecar.emit("counts", "good")
    assert [payload for payload, _ in await stored(nats)] == [b"good"]


BAD = [
    (HEAD + b"ce-subject: a\xff\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"ce-id: a\r\nCe-Id: b\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"traceparent: a\r\ntraceparent: b\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"walnats-header-A: 1\r\nWalnats-Header-a: 2\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"walnats-header-ce-id: 1\r\nce-id: 2\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"walnats-header-: 1\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"Content-Encoding: zstd, gzip\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD + b"Content-Encoding: br\r\nContent-Length: 4\r\n\r\nabcd", 400, "INVALID_HEADER"),
    (HEAD + b"Content-Encoding: gzip\r\n" + ONE, 400, "INVALID_HEADER"),
    (HEAD.replace(b"counts", b"counts?uid=a&uid=b") + ONE, 400, "INVALID_REQUEST"),
    (HEAD.replace(b"counts", b"counts?uuid=a") + ONE, 400, "INVALID_REQUEST"),
    (HEAD.replace(b"counts", b"counts?expected_last_sequence=-1") + ONE, 400, "INVALID_REQUEST"),
    (HEAD.replace(b"counts", b"counts?expected_last_sequence=18446744073709551616") + ONE, 400, "INVALID_REQUEST"),
    (HEAD.replace(b"counts", b"counts?uid=%ff") + ONE, 400, "INVALID_UID"),
    (HEAD.replace(b"counts", b"counts?uid=%0d%0aNats-Rollup:%20all") + ONE, 400, "INVALID_UID"),
    (HEAD.replace(b"counts", b"counts?trace_id=%0d%0aNats-Rollup:%20all") + ONE, 400, "INVALID_HEADER"),
    (HEAD.replace(b"counts", b"a%00b") + ONE, 400, "INVALID_NAME"),
    (HEAD.replace(b"counts", b"a%2Fb") + ONE, 400, "INVALID_NAME"),
    (HEAD.replace(b"counts", b"a%ff") + ONE, 400, "INVALID_NAME"),
    (HEAD.replace(b"counts", b"{a}") + ONE, 400, "INVALID_NAME"),
    (HEAD.replace(b"events/counts", b"event/counts") + ONE, 404, "UNKNOWN_PATH"),
    (HEAD.replace(b"events/counts", b"events/") + ONE, 404, "UNKNOWN_PATH"),
    (HEAD.replace(b"counts", b"counts/nonsense") + ONE, 404, "UNKNOWN_PATH"),
    (HEAD.replace(b"/v1/events/counts", b"/") + ONE, 404, "UNKNOWN_PATH"),
    (HEAD.replace(b"/v1/events/counts", b"/v1/events/../../etc/passwd") + ONE, 404, "UNKNOWN_PATH"),
]


async def test_a_bad_request_is_refused_with_its_reason(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        for raw, status, reason in BAD:
            got, headers, body = await send(sidecar.http, raw)
            told = json.loads(body)
            assert (got, told["reason"], told["status"]) == (status, reason, status), (raw[:200], body)
            assert told["maybe_stored"] is False
            assert headers["content-type"] == "application/problem+json"
        await sidecar.emit("counts", "good")
    assert [payload for payload, _ in await stored(nats)] == [b"good"]


async def test_another_method_is_refused_and_the_right_one_named(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
            async with sidecar.session.request(
                method, f"http://{sidecar.http}/v1/events/counts", data=b"1"
            ) as response:
                assert response.status == 405
                assert response.headers["Allow"] == "POST"
                assert method == "HEAD" or (await response.json(content_type=None))["reason"] == "WRONG_METHOD"
    assert await stored(nats) == []


async def test_chunked_bodies_are_stored_whole(nats) -> None:
    raw = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n3;ext=1\r\n234\r\n0\r\nTrailer-Of-Its: own\r\n\r\n"
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        assert (await send(sidecar.http, raw))[0] == 201
    assert [payload for payload, _ in await stored(nats)] == [b"1234"]


async def test_a_body_that_is_cut_short_is_not_stored(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        for raw in (HEAD + b"Content-Length: 100\r\n\r\n1", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12"):
            host, _, port = sidecar.http.rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(raw)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        await sidecar.emit("counts", "good")
    assert [payload for payload, _ in await stored(nats)] == [b"good"]


async def test_a_declared_length_over_the_limit_is_refused_before_the_body_comes(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        status, _, body = await send(sidecar.http, HEAD + b"Content-Length: 99999999\r\n\r\n1")
    assert (status, json.loads(body)["reason"]) == (413, "TOO_LARGE")


async def test_what_callers_do_wrong_does_not_fill_the_log(nats, tmp_path) -> None:
    async with process(tmp_path / "d", config_text(nats.url, events=[{"name": "counts"}])) as daemon:
        assert daemon.sidecar is not None
        for _ in range(3):
            assert (await send(daemon.sidecar.http, b"hello\r\n\r\n"))[0] == 400
            assert (await send(daemon.sidecar.http, HEAD + b"Content-Encoding: gzip\r\n" + ONE))[0] == 400
        await daemon.end()
    assert [line for line in daemon.lines if line.get("level") != "info"] == []
