"""One emit, over gRPC and HTTP, over TCP and Unix sockets: what is stored, and what is answered."""

from pathlib import Path
from typing import Any

import pytest

from support.daemon import config_text, running
from support.doors import both_doors, door, receipt, refusal
from support.nats_server import NatsServer
from support.streams import keep_messages, stored

EVERY_BYTE = bytes(range(256))


def config(nats: NatsServer, **event: Any) -> str:
    return config_text(nats.url, events=[{"name": "counts"} | event])


@pytest.mark.parametrize("kind", ["grpc", "http", "grpc-unix", "http-unix"])
async def test_a_message_is_stored_byte_for_byte_with_its_headers(nats, tmp_path: Path, kind) -> None:
    parts = {"grpc": {"listen": f"unix:{tmp_path}/g"}, "http": {"listen": f"unix:{tmp_path}/h"}}
    text = config_text(nats.url, events=[{"name": "counts"}], **(parts if kind.endswith("unix") else {}))
    async with running(text) as sidecar, door(kind, sidecar) as emitter:
        assert sidecar.grpc.startswith("unix:") == kind.endswith("unix")
        await keep_messages(nats)
        answer = await emitter.emit(
            "counts", EVERY_BYTE, uid="u 1", trace_id="t-1", content_type="text/x-own; charset=utf-8",
            headers={"X-Mine": "m: ü", "traceparent": "00-aa-bb-01", "tracestate": "a=b"},
        )  # fmt: skip
    assert answer == {
        "uid": "u 1", "stream": "counts", "sequence": 1, "duplicate": False, "scheduled": False, "spooled": False,
    }  # fmt: skip
    [(payload, headers)] = await stored(nats)
    assert payload == EVERY_BYTE
    assert headers == {
        "Nats-Msg-Id": "u 1", "Walnats-Trace": "t-1", "Content-Type": "text/x-own; charset=utf-8", "X-Mine": "m: ü",
        "traceparent": "00-aa-bb-01", "tracestate": "a=b",
    }  # fmt: skip


@both_doors
async def test_an_empty_payload_without_anything_else_gets_a_uid_of_its_own(nats, kind) -> None:
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        one, two = receipt(await emitter.emit("counts", b"")), receipt(await emitter.emit("counts", b""))
    assert one["uid"] != two["uid"]
    assert (one["sequence"], two["sequence"]) == (1, 2)
    assert await stored(nats) == [(b"", {"Nats-Msg-Id": one["uid"]}), (b"", {"Nats-Msg-Id": two["uid"]})]


@both_doors
async def test_the_same_uid_is_stored_once_and_the_second_answer_says_duplicate(nats, kind) -> None:
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        await emitter.emit("counts", b"before")
        one, two = [receipt(await emitter.emit("counts", data, uid="u")) for data in (b"one", b"two")]
        metrics = await sidecar.metrics()
    assert (one["duplicate"], two["duplicate"]) == (False, True)
    assert one["sequence"] == two["sequence"] == 2
    assert [payload for payload, _ in await stored(nats)] == [b"before", b"one"]
    assert metrics['walnatsd_emits_total{event="counts",outcome="stored"}'] == 2
    assert metrics['walnatsd_emits_total{event="counts",outcome="duplicate"}'] == 1


@both_doors
async def test_a_duplicate_is_only_one_within_the_same_event(nats, kind) -> None:
    text = config_text(nats.url, events=[{"name": "a.b"}, {"name": "c"}])
    async with running(text) as sidecar, door(kind, sidecar) as emitter:
        for stream in ("a-b", "c"):
            await keep_messages(nats, stream)
        answers = [receipt(await emitter.emit(event, uid="u")) for event in ("a.b", "c")]
    assert [(answer["stream"], answer["duplicate"]) for answer in answers] == [("a-b", False), ("c", False)]


# ---- uid


CE = {"ce-source": "/s", "ce-id": "7"}


UIDS_OVER_HTTP: list[tuple[dict[str, str], dict[str, str], str | None]] = [
    ({"uid": "given"}, {"Idempotency-Key": '"key"', **CE}, "given"),
    ({}, {"Idempotency-Key": '"key"', **CE}, "key"),
    ({}, {"Idempotency-Key": "no quotes"}, "no quotes"),
    ({}, {"Idempotency-Key": '"one quote'}, '"one quote'),
    ({}, {"Idempotency-Key": '""'}, None),
    ({}, {"Idempotency-Key": '"'}, '"'),
    ({}, CE, "/s 7"),
    ({"uid": ""}, CE, "/s 7"),
    ({}, {"ce-id": "7"}, None),
    ({}, {"ce-source": "/s"}, None),
    ({}, {"ce-source": "/s", "ce-id": ""}, None),
    ({}, {}, None),
]


async def test_the_uid_over_http_is_the_first_of_parameter_idempotency_key_and_cloudevent(nats) -> None:
    async with running(config(nats)) as sidecar:
        for query, headers, uid in UIDS_OVER_HTTP:
            status, answer = await sidecar.try_emit("counts", "1", headers=headers, **query)
            assert status in (200, 201)
            assert (answer["uid"] == uid) if uid else (len(answer["uid"]) == 32), (query, headers, answer)


UIDS_OVER_GRPC: list[tuple[dict[str, Any], str | None]] = [
    ({"uid": "given", "headers": CE}, "given"),
    ({"headers": CE}, "/s 7"),
    ({"headers": {"Ce-Source": "/s", "CE-ID": "7"}}, "/s 7"),
    ({"headers": {"ce-id": "7"}}, None),
    ({}, None),
]


async def test_the_uid_over_grpc_is_the_given_one_or_the_cloudevents(nats) -> None:
    async with running(config(nats)) as sidecar, door("grpc", sidecar) as emitter:
        for options, uid in UIDS_OVER_GRPC:
            answer = receipt(await emitter.emit("counts", **options))
            assert (answer["uid"] == uid) if uid else (len(answer["uid"]) == 32), (options, answer)


# ---- CloudEvents


@both_doors
async def test_a_cloudevent_in_binary_mode_is_one_in_nats_too(nats, kind) -> None:
    attributes = {
        "ce-specversion": "1.0", "ce-id": "7", "ce-source": "/s", "ce-type": "t", "ce-time": "2026-01-01T00:00:00Z",
        "ce-subject": "caf%C3%A9%20%25", "ce-ownextension": "x",
    }  # fmt: skip
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        await emitter.emit("counts", b"<a/>", headers=attributes, content_type="application/xml")
    [(payload, headers)] = await stored(nats)
    assert payload == b"<a/>"
    assert headers == attributes | {
        "Nats-Msg-Id": "/s 7", "Content-Type": "application/xml", "ce-datacontenttype": "application/xml",
    }  # fmt: skip


@both_doors
async def test_the_content_type_wins_over_the_one_among_the_attributes(nats, kind) -> None:
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        await emitter.emit("counts", uid="both", headers={"ce-datacontenttype": "text/plain"}, content_type="text/csv")
        await emitter.emit("counts", uid="one", headers={"ce-datacontenttype": "text/plain"})
        await emitter.emit("counts", uid="two", headers={"ce-subject": "s"}, content_type="text/csv; charset=utf-8")
    assert [headers for _, headers in await stored(nats)] == [
        {"Nats-Msg-Id": "both", "Content-Type": "text/csv", "ce-datacontenttype": "text/csv"},
        {"Nats-Msg-Id": "one", "ce-datacontenttype": "text/plain"},
        {
            "Nats-Msg-Id": "two",
            "ce-subject": "s",
            "Content-Type": "text/csv; charset=utf-8",
            "ce-datacontenttype": "text/csv;%20charset=utf-8",
        },
    ]


async def test_tracestate_may_be_spread_over_headers(nats) -> None:
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        url = f"http://{sidecar.http}/v1/events/counts"
        async with sidecar.session.post(url, headers=[("tracestate", "a=1"), ("tracestate", "b=2")]) as response:
            assert response.status == 201
    [(_, headers)] = await stored(nats)
    assert headers["tracestate"] == "a=1,b=2"


# ---- expected_last_sequence


@both_doors
async def test_a_message_is_stored_only_behind_the_expected_one(nats, kind) -> None:
    async with running(config(nats)) as sidecar, door(kind, sidecar) as emitter:
        await keep_messages(nats)
        assert receipt(await emitter.emit("counts", b"1", expected_last_sequence=0))["sequence"] == 1
        late = refusal(await emitter.emit("counts", b"x", uid="late", expected_last_sequence=0))
        assert receipt(await emitter.emit("counts", b"2", expected_last_sequence=1))["sequence"] == 2
        far = refusal(await emitter.emit("counts", b"x", uid="far", expected_last_sequence=(1 << 64) - 1))
    for answer, uid in ((late, "late"), (far, "far")):
        assert (answer.code, answer.reason) == ({"grpc": "ABORTED", "http": "409"}[kind], "SEQUENCE")
        assert (answer.uid, answer.maybe_stored) == (uid, False)
    assert [payload for payload, _ in await stored(nats)] == [b"1", b"2"]
