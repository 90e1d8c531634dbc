"""`walnatsd request`: what it prints, and its exit code."""

import json

from aiohttp import web

from support.commands import Done, walnatsd
from support.daemon import config_text, running
from support.receiver import Received


async def request(*arguments: str, stdin: bytes = b"") -> Done:
    return await walnatsd("request", *arguments, stdin=stdin)


def config(nats, receiver) -> str:
    actor = {"name": "echo", "event": "words", "url": receiver.url, "responds": True}
    return config_text(nats.url, events=[{"name": "words"}, {"name": "lonely"}], actors=[actor])


async def echo(received: Received) -> web.StreamResponse:
    if received.body == b"bad":
        return web.Response(status=422, text="bad words")
    return web.Response(body=received.body, content_type=received.headers["content-type"])


async def test_the_answer_is_printed_byte_for_byte(nats, receiver) -> None:
    receiver.answer = echo
    async with running(config(nats, receiver)) as sidecar:
        printed = await request("--http", sidecar.http, "words", "a\nb", "--timeout", "30s")
        piped = await request("--http", sidecar.http, "words", "--content-type", "image/png", stdin=b"\x89PNG\xff")
    assert (printed.exit_code, printed.out) == (0, b"a\nb")
    assert (piped.exit_code, piped.out) == (0, b"\x89PNG\xff")


async def test_the_facts_of_the_answer_are_there_in_json(nats, receiver) -> None:
    receiver.answer = echo
    async with running(config(nats, receiver)) as sidecar:
        text = await request(
            "--http", sidecar.http, "--json", "words", "hi", "--uid", "u1", "--trace-id", "t", "-H", "X-Mine=1"
        )
        binary = await request("--http", sidecar.http, "--json", "words", "--uid", "u2", stdin=b"\xff")
    assert json.loads(text.out) == {
        "uid": "u1", "actor": "echo", "content_type": "application/json", "payload": "hi",
    }  # fmt: skip
    assert json.loads(binary.out)["payload_base64"] == "/w=="
    assert receiver.received[0].headers["walnats-trace"] == "t"
    assert receiver.received[0].headers["x-mine"] == "1"


async def test_without_an_answer_it_exits_with_1_and_says_why(nats, receiver) -> None:
    receiver.answer = echo
    async with running(config(nats, receiver)) as sidecar:
        lonely = await request("--http", sidecar.http, "lonely", "x")
        given_up = await request("--http", sidecar.http, "words", "bad", "--uid", "u")
        nonsense = await request("--http", sidecar.http, "words", "x", "--timeout", "soon")
        in_json = await request("--http", sidecar.http, "--json", "lonely", "x")
    assert {result.exit_code for result in (lonely, given_up, nonsense, in_json)} == {1}
    assert {result.out for result in (lonely, given_up, nonsense)} == {b""}
    assert lonely.err.startswith("error: the event 'lonely' has no actor, so nobody can answer")
    assert given_up.err == ("error: echo gave the message up, which is a dead letter now: 422: bad words\nuid u\n")
    assert "timeout: write a duration" in nonsense.err
    assert json.loads(in_json.out)["reason"] == "NO_ACTORS"


async def test_what_is_no_daemon_is_told() -> None:
    result = await request("--http", "127.0.0.1:1", "words", "x")
    assert (result.exit_code, result.out) == (1, b"")
    assert "no walnatsd answers at 127.0.0.1:1" in result.err
