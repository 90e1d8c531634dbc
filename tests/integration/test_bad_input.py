"""Every bad input, at every door: a clear answer, and nothing stored or lost by it."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration

from support.daemon import Sidecar, config_text, running
from support.doors import Receipt, door, refusal
from support.grpc_calls import Refused, refused, stubs
from support.nats_server import NatsServer
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.cli import main
from walnatsd.v1 import actors_pb2, events_pb2

CONFIG: dict[str, Any] = {"events": [{"name": "counts", "limits": {"message_size": "64KiB"}}]}


@dataclass(frozen=True)
class Bad:
    """One bad emit and the reason it is refused for."""

    what: str
    reason: str
    event: str = "counts"
    payload: bytes = b"1"
    options: dict[str, Any] = field(default_factory=dict)
    doors: tuple[str, ...] = ("grpc", "http", "cli")


RESERVED = (
    "Nats-Msg-Id", "Nats-Rollup", "nats-ttl", "Nats-Expected-Stream", "Walnats-Reply", "Walnats-Delay", "Walnats-Trace",
    "walnats-event", "webhook-id", "Webhook-Signature", "Host", "Content-Length", "Authorization", "Cookie",
    "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer",
    "Transfer-Encoding", "Upgrade",
)  # fmt: skip
"""Section 1 of the contract; hop-by-hop headers as RFC 9110 and its registry have them."""

TABLE = [
    Bad("unknown event", "UNKNOWN_EVENT", event="nobody"),
    Bad("name with a space", "INVALID_NAME", event="a b"),
    Bad("name with a wildcard", "INVALID_NAME", event="counts.*"),
    Bad("name with an empty part", "INVALID_NAME", event="a..b"),
    Bad("name with a line end", "INVALID_NAME", event="counts\r\n"),
    Bad("name that is not ASCII", "INVALID_NAME", event="zähler"),
    Bad("reserved name", "INVALID_NAME", event="walnatsd.due.counts"),
    Bad("name too long", "INVALID_NAME", event="x" * 256),
    Bad("no name", "INVALID_NAME", event="", doors=("grpc",)),
    Bad("payload over the limit", "TOO_LARGE", payload=b"x" * 65537),
    Bad("payload over max_payload", "TOO_LARGE", payload=b"x" * (1 << 20)),
    Bad("uid with an umlaut", "INVALID_UID", options={"uid": "ä"}),
    Bad("uid with a line end", "INVALID_UID", options={"uid": "a\nb"}),
    Bad("uid too long", "INVALID_UID", options={"uid": "x" * 257}),
    Bad("uid that NATS would trim", "INVALID_UID", options={"uid": " a"}),
    Bad("uid of a CloudEvent too long", "INVALID_UID", options={"headers": {"ce-source": "x" * 250, "ce-id": "y" * 7}}),
    Bad("trace id with a line end", "INVALID_HEADER", options={"trace_id": "a\r\nNats-Rollup: all"}),
    *(Bad(f"header {name}", "INVALID_HEADER", options={"headers": {name: "x"}}) for name in RESERVED),
    *(
        Bad(f"header value with {name}", "INVALID_HEADER", options={"headers": {"X-A": f"a{sign}b"}}, doors=("grpc",))
        for name, sign in (("CR", "\r"), ("LF", "\n"), ("CRLF", "\r\nNats-Rollup: all"), ("NUL", "\0"), ("ESC", "\x1b"))
    ),
    Bad("content type with CRLF", "INVALID_HEADER", options={"content_type": "a/b\r\nNats-Rollup: all"}, doors=("grpc",)),
    Bad("header name with a space", "INVALID_HEADER", options={"headers": {"X A": "x"}}, doors=("grpc",)),
    Bad("header name with CRLF", "INVALID_HEADER", options={"headers": {"X\r\nNats-Rollup": "all"}}, doors=("grpc",)),
    Bad("header name with a colon", "INVALID_HEADER", options={"headers": {"Nats-Rollup: all\r\nX": "x"}}, doors=("grpc",)),
    Bad("no header name", "INVALID_HEADER", options={"headers": {"": "x"}}, doors=("grpc", "http")),
    Bad("header that stands twice", "INVALID_HEADER", options={"headers": {"X-A": "1", "x-a": "2"}}, doors=("grpc", "cli")),
]  # fmt: skip
CODES = {
    "UNKNOWN_EVENT": ("NOT_FOUND", "404"), "INVALID_NAME": ("INVALID_ARGUMENT", "400"),
    "INVALID_HEADER": ("INVALID_ARGUMENT", "400"), "INVALID_UID": ("INVALID_ARGUMENT", "400"),
    "TOO_LARGE": ("INVALID_ARGUMENT", "413"),
}  # fmt: skip


class Cli:
    """`walnatsd emit`, in this process."""

    name = "cli"

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def emit(self, event: str, payload: bytes = b"1", **options: Any) -> Receipt | Refused:
        arguments = ["emit", "--http", self._sidecar.http, "--json", event]
        for name, value in options.pop("headers", {}).items():
            arguments += ["-H", f"{name}={value}"]
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, payload)
        # the daemon is in this process too, and its log goes where the command prints
        [line] = [line for line in result.stdout.splitlines() if line.startswith("{")]
        answer = json.loads(line)
        if "reason" not in answer:
            assert result.exit_code == 0
            return dict(answer)
        assert result.exit_code == 1
        return Refused(
            str(answer["status"]), answer["reason"], answer["detail"], answer["uid"], answer["maybe_stored"], None
        )


@pytest.mark.parametrize("kind", ["grpc", "http", "cli"])
async def test_every_bad_emit_is_refused_with_its_reason_and_nothing_is_stored(nats, kind) -> None:
    expected, told = {}, {}
    async with running(config_text(nats.url, **CONFIG)) as sidecar, door(kind, sidecar) as api:
        await keep_messages(nats)
        emitter = Cli(sidecar) if kind == "cli" else api
        for bad in TABLE:
            if kind in bad.doors:
                answer = await emitter.emit(bad.event, bad.payload, **bad.options)
                expected[bad.what] = (bad.reason, CODES[bad.reason][kind != "grpc"], False)
                told[bad.what] = (
                    (answer.reason, answer.code, answer.maybe_stored) if isinstance(answer, Refused) else answer
                )
                assert not isinstance(answer, Refused) or answer.message
        good = await emitter.emit("counts", b"good", uid="u")
        metrics = await sidecar.metrics()
    assert told == expected
    assert isinstance(good, dict)
    assert [payload for payload, _ in await stored(nats)] == [b"good"]
    assert metrics["walnatsd_nats_reconnects_total"] == 0
    assert metrics['walnatsd_emits_total{event="(unknown)",outcome="INVALID_NAME"}'] >= 7


@pytest.mark.parametrize("kind", ["grpc", "http"])
async def test_the_refusal_carries_the_uid_that_a_retry_would_need(nats, kind) -> None:
    async with running(config_text(nats.url, **CONFIG)) as sidecar, door(kind, sidecar) as emitter:
        for event, payload, headers in (
            ("nobody", b"1", {}),
            ("counts", b"x" * 65537, {}),
            ("counts", b"1", {"TE": "x"}),
        ):
            assert refusal(await emitter.emit(event, payload, uid="mine", headers=headers)).uid == "mine"
        made = await emitter.emit("nobody", headers={"ce-source": "/warehouse", "ce-id": "7"})
        assert refusal(made).uid == "/warehouse 7"


async def test_an_http_request_that_is_refused_unread_names_the_uid_that_it_gave(nats) -> None:
    calls = (
        ("POST", "counts?uid=mine&dely=5", {}),
        ("POST", "counts?uid=mine&expected_last_sequence=x", {}),
        ("POST", "counts?dely=5", {"Idempotency-Key": '"mine"'}),
        ("POST", "counts", {"Idempotency-Key": '"mine"', "ce-subject": "%ff"}),
        ("POST", "counts", {"Idempotency-Key": '"mine"', "Content-Type": "application/cloudevents-batch+json"}),
        ("POST", "counts/request?uid=mine&timeout=soon", {}),
        ("DELETE", "nobody/scheduled/mine", {}),
    )
    async with running(config_text(nats.url, **CONFIG)) as sidecar, aiohttp.ClientSession() as session:
        for method, path, headers in calls:
            url = f"http://{sidecar.http}/v1/events/{path}"
            async with session.request(method, url, data=b"1", headers=headers) as answer:
                told = await answer.json()
            assert (path, told["uid"], told["maybe_stored"]) == (path, "mine", False), told


async def test_a_refusal_of_something_very_long_fits_into_the_trailers_of_grpc(nats) -> None:
    """gRPC's libraries put RESOURCE_EXHAUSTED, without a reason, in the place of an error with more than they read."""
    long = "x" * 30_000
    requests = (
        (events_pb2.EmitRequest(event="nobody", uid=long), "UNKNOWN_EVENT"),
        (events_pb2.EmitRequest(event="counts", headers={f"Nats-{long}": "1"}), "INVALID_HEADER"),
        (events_pb2.EmitRequest(event="counts", headers={f"{long} ": "1"}), "INVALID_HEADER"),
        (events_pb2.EmitRequest(event="counts", headers={"ä" * 8_000: "1"}), "INVALID_HEADER"),
    )
    declared = events_pb2.RegisterEventsRequest(events=[events_pb2.Event(name=f"{long} ")])
    async with running(config_text(nats.url, **CONFIG)) as sidecar, stubs(sidecar.grpc) as grpc_api:
        calls = [(grpc_api.events.Emit(request), reason) for request, reason in requests]
        calls.append((grpc_api.events.Register(declared), "INVALID_DECLARATION"))
        for call, reason in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            told = refused(caught.value)
            assert (told.code, told.reason) in {("INVALID_ARGUMENT", reason), ("NOT_FOUND", reason)}
            assert len(told.message.encode()) < 4_000


# ---- what only gRPC can send


@pytest.mark.parametrize(
    "raw",
    [b"\x0a\x02\xff\xfe", b"\xff\xff\xff", b"\x0a\x06counts\x42\x07\x0a\x01a\x12\x02\xc3\x28"],
    ids=["name that is not UTF-8", "no protobuf", "header that is not UTF-8"],
)
async def test_a_grpc_request_that_can_not_be_parsed_is_refused_in_words(nats, raw) -> None:
    async with running(config_text(nats.url, **CONFIG)) as sidecar, stubs(sidecar.grpc) as calls:
        for method in ("Events/Emit", "Events/EmitBatch", "Events/Register", "Actors/Register"):
            if method != "Events/Emit" and raw != b"\xff\xff\xff":
                continue
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await calls.channel.unary_unary(f"/walnatsd.v1.{method}")(raw)
            told = refused(caught.value)
            assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert (await calls.events.Emit(events_pb2.EmitRequest(event="counts"))).uid


async def test_a_duration_of_two_signs_in_a_declaration_is_no_unknown_error(nats) -> None:
    neither = Duration(seconds=1, nanos=-1)
    event = events_pb2.Event(name="later", duplicate_window=neither)
    actor = actors_pb2.Actor(name="act", event="counts", ack_wait=neither)
    async with running(config_text(nats.url, **CONFIG)) as sidecar, stubs(sidecar.grpc) as calls:
        for call, field in (
            (calls.events.Register(events_pb2.RegisterEventsRequest(events=[event])), "duplicate_window"),
            (calls.actors.Register(actors_pb2.RegisterActorsRequest(actors=[actor])), "ack_wait"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            told = refused(caught.value)
            assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_DECLARATION")
            assert field in told.message


async def test_bytes_that_are_no_emit_do_not_end_a_stream_with_an_unknown_error(nats) -> None:
    good = events_pb2.EmitRequest(event="counts", uid="a").SerializeToString()
    async with running(config_text(nats.url, **CONFIG)) as sidecar, stubs(sidecar.grpc) as calls:
        stream = calls.channel.stream_stream("/walnatsd.v1.Events/EmitStream")()
        await stream.write(good)
        assert events_pb2.EmitResult.FromString(await stream.read()).ok.uid == "a"
        await stream.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        told = refused(caught.value)
    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_an_unknown_grpc_method_is_unimplemented(nats) -> None:
    async with running(config_text(nats.url, **CONFIG)) as sidecar, stubs(sidecar.grpc) as calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.channel.unary_unary("/walnatsd.v1.Events/Nonsense")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# ---- reply subjects


@pytest.mark.parametrize("subject", ["$JS.API.STREAM.DELETE.counts", "counts", "_INBOX.>", "anything"])
async def test_a_reply_subject_of_a_plain_publisher_outside_the_inboxes_is_never_published_to(
    nats: NatsServer, receiver, subject
) -> None:
    actors = [{"name": "act", "event": "counts", "url": receiver.url}]
    async with running(config_text(nats.url, **CONFIG, actors=actors)), nats.jetstream() as jetstream:
        heard: list[bytes] = []

        async def hear(message: Any) -> None:
            heard.append(message.data)

        watched = subject if subject == "anything" else "_INBOX.nobody"
        await jetstream._nc.subscribe(watched, cb=hear)
        await jetstream.publish("counts", b"7", headers={"Walnats-Reply": subject})
        await receiver.wait_for(1)

        async def settled() -> bool:
            return (await jetstream.consumer_info("counts", "act")).num_ack_pending == 0

        await until(settled)
        await jetstream._nc.flush()
        state = (await jetstream.stream_info("counts")).state
    assert heard == []
    assert state.last_seq == 1
    assert receiver.bodies == [b"7"]
