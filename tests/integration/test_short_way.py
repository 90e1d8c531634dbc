"""A path that was asked for before is found without a search, and its answer leaves in one piece: callers see no difference."""

import asyncio
import json

import pytest
from aiohttp import web

from support.access import guarded_text, token_of
from support.daemon import config_text, running
from support.raw_http import send
from support.streams import keep_messages
from walnatsd.observe.metrics import Metrics
from walnatsd.servers.door import application
from walnatsd.servers.http_operations import EMIT
from walnatsd.servers.operations import serve
from walnatsd.servers.shortcut import MOST_PATHS, SHORTCUT
from walnatsd.servers.web import serve_web

BODY = b'{"count":1}'


def post(path: str = "/v1/events/counts", *lines: str, version: str = "1.1", body: bytes = BODY) -> bytes:
    head = [f"POST {path} HTTP/{version}", f"Content-Length: {len(body)}", "Content-Type: application/json", *lines]
    if version == "1.1" and not any(line.startswith("Host") for line in lines):
        head.append("Host: localhost")
    return "\r\n".join([*head, "", ""]).encode() + body


def events_text(nats_url: str) -> str:
    return config_text(nats_url, events=[{"name": "counts"}])


async def test_the_answer_is_the_same_whether_the_path_is_known_and_however_the_connection_goes_on(nats) -> None:
    async with running(events_text(nats.url)) as sidecar:
        await keep_messages(nats)
        unknown = await send(sidecar.http, post())
        known = await send(sidecar.http, post())
        closing = await send(sidecar.http, post("/v1/events/counts", "Connection: close"))
        old = await send(sidecar.http, post(version="1.0"))
    told = [json.loads(body) for _, _, body in (unknown, known, closing, old)]
    assert [status for status, _, _ in (unknown, known, closing, old)] == [201] * 4
    assert [each["sequence"] for each in told] == [1, 2, 3, 4]

    def lasting(headers: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in headers.items() if name not in ("date", "content-length")}

    assert lasting(unknown[1]) == lasting(known[1]) == lasting(old[1])
    assert lasting(closing[1]) == lasting(known[1]) | {"connection": "close"}


async def test_requests_one_after_the_other_without_waiting_are_answered_in_order(nats) -> None:
    async with running(events_text(nats.url)) as sidecar:
        host, _, port = sidecar.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"".join(post(f"/v1/events/counts?uid=u{number}") for number in range(50)))
        uids = []
        for _ in range(50):
            async with asyncio.timeout(10):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
                uids.append(json.loads(await reader.readexactly(size))["uid"])
        writer.close()
        await writer.wait_closed()
    assert uids == [f"u{number}" for number in range(50)]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("Host: evil.example", f"Authorization: Bearer {token_of('emit')}"), "HOST"),
        (("Host: localhost", "Origin: http://evil.example", f"Authorization: Bearer {token_of('emit')}"), "ORIGIN"),
        (("Host: localhost",), "TOKEN"),
        (("Host: localhost", f"Authorization: Bearer {token_of('act')}"), "SCOPE"),
    ],
)
async def test_the_short_way_leads_through_the_same_door(nats, tmp_path, lines, reason) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        good = post("/v1/events/counts", f"Authorization: Bearer {token_of('emit')}")
        for _ in range(2):
            assert (await send(sidecar.http, good))[0] == 201
        _, _, body = await send(sidecar.http, post("/v1/events/counts", *lines))
        assert json.loads(body)["reason"] == reason
        assert (await send(sidecar.http, good))[0] == 201


async def test_another_method_on_a_known_path_and_a_caller_who_expects_a_word_first_are_served_as_ever(nats) -> None:
    async with running(events_text(nats.url)) as sidecar:
        for _ in range(2):
            assert (await send(sidecar.http, post()))[0] == 201
        status, headers, _ = await send(sidecar.http, post().replace(b"POST", b"DELETE", 1))
        assert (status, headers["allow"]) == (405, "POST")
        status, _, _ = await send(sidecar.http, post("/v1/events/counts", "Expect: 100-continue"))
        assert status == 100


async def test_paths_that_callers_make_up_are_forgotten_again() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    app = application(None, None)
    serve(app, EMIT, answer)
    async with serve_web("http", "127.0.0.1:0", app, Metrics(), stop_within_s=lambda: 1.0) as address:
        for number in range(MOST_PATHS + 10):
            assert (await send(address, post(f"/v1/events/e{number}")))[0] == 200
    assert 0 < app[SHORTCUT].remembered <= MOST_PATHS
