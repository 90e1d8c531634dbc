"""The description of the HTTP address is valid, whole, and true: what is answered is what it says."""

import json
from typing import Any

import pytest
from aiohttp import web
from jsonschema import ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from support.buried import bury, refuse
from support.buried import config as buried_config
from support.daemon import Sidecar, config_text, running
from support.described import Description, read_description
from support.streams import keep_messages

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "parcel.sent", "data": {"a": 1}}


@pytest.mark.parametrize("address", ["http", "admin"])
async def test_the_description_is_valid_openapi(nats, address) -> None:
    async with running(config_text(nats.url)) as sidecar:
        description = await read_description(sidecar, getattr(sidecar, address))
    OpenAPIV31SpecValidator(description.data).validate()
    assert description.data["info"]["version"]


def calls_of(description: Description) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in description.data["paths"].items() for method in methods}


async def test_every_path_of_the_contract_is_described_and_no_other(nats) -> None:
    async with running(config_text(nats.url)) as sidecar:
        description = await read_description(sidecar)
        of_admin = await read_description(sidecar, sidecar.admin)
    event = "/v1/events/{event}"
    assert calls_of(description) == {
        ("post", event), ("post", f"{event}/batch"), ("post", f"{event}/request"), ("get", "/openapi.json"),
        ("get", f"{event}/monitor"), ("get", f"{event}/scheduled"), ("delete", f"{event}/scheduled/{{uid}}"),
    }  # fmt: skip
    actor, letters = "/admin/v1/actors/{event}/{actor}", "/admin/v1/dead-letters"
    spool = "/admin/v1/spool"
    assert calls_of(of_admin) == {
        *((method, path) for method in ("get", "head") for path in ("/livez", "/readyz", "/metrics")),
        ("get", "/openapi.json"), ("get", "/admin/v1/events"), ("get", "/admin/v1/actors"), ("post", f"{actor}/pause"),
        ("post", f"{actor}/resume"), ("delete", actor), ("delete", "/admin/v1/events/{event}"),
        ("get", letters), ("get", f"{letters}/{{sequence}}"), ("post", f"{letters}/{{sequence}}/replay"),
        ("post", f"{letters}/replay"), ("delete", f"{letters}/{{sequence}}"), ("post", "/admin/v1/reload"),
        ("get", spool), ("get", f"{spool}/set-aside"), ("post", f"{spool}/set-aside/{{id}}/retry"),
        ("delete", f"{spool}/set-aside/{{id}}"),
    }  # fmt: skip


CALLS: list[tuple[str, str, dict[str, Any], int]] = [
    ("post", "/v1/events/counts?uid=a", {"data": b"1"}, 201),
    ("post", "/v1/events/counts?uid=a", {"data": b"1"}, 200),
    ("post", "/v1/events/counts", {"data": json.dumps(EVENT), "headers": STRUCTURED}, 201),
    ("post", "/v1/events/counts?trace_id=t", {"data": b"\xff", "headers": {"ce-id": "%c3%bc"}}, 201),
    ("post", "/v1/events/counts", {"data": b"1", "headers": {"ce-id": "%ff"}}, 400),
    ("post", "/v1/events/counts?delay=1h", {"data": b"1"}, 202),
    ("post", "/v1/events/counts?deliver_at=tomorrow", {"data": b"1"}, 400),
    ("post", "/v1/events/nope", {"data": b"1"}, 404),
    ("post", "/v1/events/a%20b", {"data": b"1"}, 400),
    ("post", "/v1/events/counts?uuid=a", {"data": b"1"}, 400),
    ("post", "/v1/events/counts?expected_last_sequence=77", {"data": b"1"}, 409),
    ("post", "/v1/events/counts", {"data": b"1", "headers": {"Origin": "http://elsewhere.example"}}, 403),
    ("post", "/v1/events/wanted", {"data": b"1"}, 409),
    ("post", "/v1/events/small", {"data": b"x" * 2000}, 413),
    ("post", "/v1/events/typed", {"data": b"1"}, 422),
    ("post", "/v1/events/full", {"data": b"1"}, 201),
    ("post", "/v1/events/full", {"data": b"1"}, 507),
    ("post", "/v1/events/counts/batch", {"data": json.dumps([EVENT, {}, EVENT]), "headers": BATCH}, 200),
    ("post", "/v1/events/counts/batch", {"data": "{}", "headers": BATCH}, 400),
    ("post", "/v1/events/counts/batch", {"data": json.dumps([EVENT] * 1001), "headers": BATCH}, 413),
    ("post", "/v1/events/wanted/request", {"data": b"1"}, 409),
    ("post", "/v1/events/counts/request?timeout=0.05", {"data": b"1"}, 504),
    ("post", "/v1/events/counts/request?timeout=no", {"data": b"1"}, 400),
    ("post", "/v1/events/words/request", {"data": b"1"}, 200),
    ("post", "/v1/events/counts?delay=1h&uid=later", {"data": b"1"}, 202),
    ("post", "/v1/events/counts?delay=1h&uid=later", {"data": b"1"}, 200),
    ("get", "/v1/events/counts/scheduled?limit=1", {}, 200),
    ("get", "/v1/events/counts/scheduled?limit=0", {}, 400),
    ("get", "/v1/events/nope/scheduled", {}, 404),
    ("delete", "/v1/events/counts/scheduled/later", {}, 200),
    ("delete", "/v1/events/counts/scheduled/%C3%BC", {}, 400),
    ("get", "/v1/events/nope/monitor", {}, 404),
    ("get", "/v1/events/a%20b/monitor", {}, 400),
    ("get", "/openapi.json", {}, 200),
    ("get", "/openapi.json?a=b", {}, 400),
]


async def test_what_is_answered_is_what_the_description_says(nats, receiver, tmp_path) -> None:
    async def answer(_received: object) -> web.Response:
        return web.Response(text="1")

    receiver.answer = answer
    (tmp_path / "number.json").write_text('{"type": "string"}')
    events = [
        {"name": "counts"},
        {"name": "words"},
        {"name": "wanted", "min_actors": 1},
        {"name": "small", "limits": {"message_size": "1KiB"}},
        {"name": "full", "limits": {"messages": 1, "when_full": "refuse"}},
        {"name": "typed", "schema": {"json_schema": str(tmp_path / "number.json")}},
    ]
    actors = [{"name": "count", "event": "words", "url": receiver.url, "responds": True}]
    async with running(config_text(nats.url, events=events, actors=actors)) as sidecar:
        for event in ("counts", "small", "full"):
            await keep_messages(nats, event)
        description = await read_description(sidecar)
        met: set[tuple[str, str]] = set()
        for method, path, options, status in CALLS:
            met.add(await see_that_it_is_described(sidecar.http, sidecar, description, method, path, options, status))
    assert met == calls_of(description)


ADMIN_CALLS: list[tuple[str, str, int]] = [
    ("get", "/livez?verbose", 200),
    ("head", "/livez", 200),
    ("get", "/readyz", 200),
    ("head", "/readyz", 200),
    ("get", "/metrics", 200),
    ("head", "/metrics", 200),
    ("get", "/openapi.json", 200),
    ("get", "/admin/v1/events?limit=1", 200),
    ("get", "/admin/v1/events?limit=0", 400),
    ("get", "/admin/v1/actors", 200),
    ("get", "/admin/v1/actors?lmit=1", 400),
    ("post", "/admin/v1/actors/counts/print/pause?untill=2100-01-01T00:00:00Z", 400),
    ("post", "/admin/v1/actors/counts/print/pause?until=2100-01-01T00:00:00Z", 200),
    ("post", "/admin/v1/actors/counts/print/pause?until=yesterday", 400),
    ("post", "/admin/v1/actors/counts/print/resume", 200),
    ("post", "/admin/v1/actors/counts/nobody/resume", 404),
    ("delete", "/admin/v1/actors/counts/print", 409),
    ("delete", "/admin/v1/actors/counts/keeper", 204),
    ("delete", "/admin/v1/events/counts?confirm=counts", 409),
    ("delete", "/admin/v1/events/counts", 400),
    ("get", "/admin/v1/dead-letters?event=counts&actor=print&limit=1", 200),
    ("get", "/admin/v1/dead-letters/1", 200),
    ("get", "/admin/v1/dead-letters/2", 200),
    ("get", "/admin/v1/dead-letters/77", 404),
    ("get", "/admin/v1/dead-letters/0", 404),
    ("post", "/admin/v1/dead-letters/0/replay", 404),
    ("delete", "/admin/v1/dead-letters/0", 404),
    ("get", "/admin/v1/dead-letters/one", 400),
    ("post", "/admin/v1/dead-letters/1/replay", 200),
    ("post", "/admin/v1/dead-letters/replay?event=counts&actor=print&limit=1", 200),
    ("post", "/admin/v1/dead-letters/replay", 400),
    ("get", "/admin/v1/spool", 200),
    ("get", "/admin/v1/spool/set-aside", 200),
    ("get", "/admin/v1/spool/set-aside?limit=0", 400),
    ("post", "/admin/v1/spool/set-aside/7/retry", 404),
    ("delete", "/admin/v1/spool/set-aside/7", 404),
    ("delete", "/admin/v1/dead-letters/77", 404),
    ("post", "/admin/v1/reload", 400),
]


async def test_what_the_admin_address_answers_is_what_its_description_says(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(buried_config(nats, receiver)) as sidecar:
        await bury(sidecar, ["1", b"\xff", "3"])
        await keep_messages(nats)
        description = await read_description(sidecar, sidecar.admin)
        met = {
            await see_that_it_is_described(sidecar.admin, sidecar, description, method, path, {}, status)
            for method, path, status in ADMIN_CALLS
        }
        assert met == calls_of(description)


async def test_an_outage_is_answered_as_described(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}], emit={"timeout": 0.2})) as sidecar:
        description = await read_description(sidecar)
        await nats.stop()
        await see_that_it_is_described(
            sidecar.http, sidecar, description, "post", "/v1/events/counts", {"data": b"1"}, 503
        )


async def see_that_it_is_described(
    address: str,
    sidecar: Sidecar,
    description: Description,
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
) -> tuple[str, str]:
    """Make a call; give the operation that it was."""
    async with sidecar.session.request(method, f"http://{address}{path}", **options) as response:
        body = await response.read()
        assert response.status == status, (path, body)
        return description.see_answer(method, path, response.status, dict(response.headers), body)


def test_a_description_that_is_not_true_is_noticed() -> None:
    receipt = {"type": "object", "properties": {"uid": {"type": "string"}}, "required": ["uid"]}
    answers = {"201": {"description": "", "content": {"application/json": {"schema": receipt}}}}
    description = Description({"openapi": "3.1.0", "paths": {"/v1/{event}": {"post": {"responses": answers}}}})
    headers = {"Content-Type": "application/json"}
    assert description.see_answer("post", "/v1/a?b=c", 201, headers, b'{"uid":"u"}') == ("post", "/v1/{event}")
    for status, body in ((200, b'{"uid":"u"}'), (201, b'{"uid":1}'), (201, b"{}")):
        with pytest.raises((AssertionError, ValidationError)):
            description.see_answer("post", "/v1/a", status, headers, body)
