"""CloudEvents on the whole way, from emit to webhook, judged by the CloudEvents SDK."""

import datetime as dt
import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary_event,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from support.daemon import Sidecar, config_text, running
from support.doors import both_doors, door, receipt, refusal
from support.grpc_calls import stubs
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.streams import stored
from support.waiting import until
from walnatsd.v1 import events_pb2

ATTRIBUTES: dict[str, Any] = {
    "specversion": "1.0",
    "id": 'A 234/"1234"',
    "source": "https://example.com/wäre house?a=b#c",
    "type": "com.example.parcel.sent",
    "time": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "subject": "Euro € \U0001f600 100%",
    "dataschema": "https://example.com/schema.json",
    "datacontenttype": "application/json",
    "comexampleextension": "%20 is no space; \\ is one sign",
    "sequence": "00007",
}
DATA = {"parcel": 7, "note": "ü"}


def text_for(nats: NatsServer, receiver: Receiver, **actor: Any) -> str:
    actors = [{"name": "print", "event": "counts", "url": receiver.url} | actor]
    return config_text(nats.url, events=[{"name": "counts"}], actors=actors)


def message_of(received: Received) -> HTTPMessage:
    return HTTPMessage(received.headers, received.body)


def see_that_all_is_there(event: Any) -> None:
    assert event.get_attributes() == ATTRIBUTES
    assert event.get_data() == DATA


async def post(sidecar: Sidecar, path: str, message: HTTPMessage) -> None:
    url = f"http://{sidecar.http}/v1/events/counts{path}"
    async with sidecar.session.post(url, data=message.body, headers=message.headers) as response:
        assert response.status in (200, 201), await response.text()


@pytest.mark.parametrize("write", [to_binary_event, to_structured_event])
async def test_every_attribute_and_extension_survives_from_emit_to_webhook(nats, receiver, write) -> None:
    event = CloudEvent(ATTRIBUTES, DATA)
    async with running(text_for(nats, receiver)) as sidecar:
        await post(sidecar, "", write(event))
        [received] = await receiver.wait_for(1)
    see_that_all_is_there(from_binary_event(message_of(received)))
    assert "ce-datacontenttype" not in received.headers  # "MUST NOT also be present" (HTTP binding, section 3.1.1)


async def test_every_attribute_survives_a_batch_in_and_a_batch_out(nats, receiver) -> None:
    event = json.loads(JSONFormat().write(CloudEvent(ATTRIBUTES, DATA)))
    batch = HTTPMessage({"Content-Type": "application/cloudevents-batch+json"}, json.dumps([event]).encode())
    async with running(text_for(nats, receiver, batch={"max_wait": 0})) as sidecar:
        await post(sidecar, "/batch", batch)
        [received] = await receiver.wait_for(1)
    [arrived] = json.loads(received.body)
    assert arrived.pop("walnatssequence") == arrived.pop("walnatsattempt") == 1
    see_that_all_is_there(JSONFormat().read(CloudEvent, json.dumps(arrived)))


async def test_the_headers_in_nats_are_those_of_the_nats_binding(nats, receiver) -> None:
    """Section 3.1.3: each attribute a header of its own with the prefix, `datacontenttype` too; values percent-encoded."""
    async with running(text_for(nats, receiver)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.add_consumer("counts", durable_name="keeper")
        await post(sidecar, "", to_structured_event(CloudEvent(ATTRIBUTES, DATA)))
        [(payload, headers)] = await stored(nats)
    attributes = {name: value for name, value in headers.items() if name.startswith("ce-")}
    assert set(attributes) == {f"ce-{name}" for name in ATTRIBUTES}
    assert attributes["ce-subject"] == "Euro%20%E2%82%AC%20%F0%9F%98%80%20100%25"
    assert attributes["ce-datacontenttype"] == headers["Content-Type"] == "application/json"
    assert all(value.isascii() and " " not in value and '"' not in value for value in attributes.values())
    assert json.loads(payload) == DATA


async def test_attributes_over_grpc_may_be_written_as_they_are(nats, receiver) -> None:
    raw = {"ce-id": "ä 1", "ce-source": "/s", "ce-type": "t", "ce-specversion": "1.0", "ce-subject": 'a "b" ü'}
    async with running(text_for(nats, receiver)) as sidecar, stubs(sidecar.grpc) as calls:
        first = await calls.events.Emit(events_pb2.EmitRequest(event="counts", payload=b"1", headers=raw))
        again = await calls.events.Emit(
            events_pb2.EmitRequest(event="counts", payload=b"1", headers=raw | {"ce-id": "%C3%A4%201"})
        )
        [received] = await receiver.wait_for(1)
    assert first.uid == again.uid == "/s %C3%A4%201"
    assert again.duplicate
    event = from_binary_event(message_of(received))
    assert (event.get_id(), event.get_subject()) == ("ä 1", 'a "b" ü')


@both_doors
async def test_an_attribute_that_is_encoded_and_not_utf_8_is_refused(nats, kind) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, door(kind, sidecar) as emitter:
        bad = refusal(await emitter.emit("counts", uid="u", headers={"ce-subject": "%C0%A0"}))
        receipt(await emitter.emit("counts", uid="u", headers={"ce-subject": "%c3%a0"}))
    assert (bad.reason, bad.uid, bad.maybe_stored) == ("INVALID_HEADER", "u", False)
    assert bad.message == "ce-subject: is percent-encoded, but not as UTF-8"


async def test_attributes_of_another_publisher_are_encoded_on_their_way_to_the_webhook(nats, receiver) -> None:
    """The walnats library writes them as they are; older versions of the binding put them in quotes."""
    async with running(text_for(nats, receiver)), nats.jetstream() as jetstream:
        headers = {
            "ce-subject": "a b 100%",
            "ce-old": '"a \\"b\\""',
            "ce-datacontenttype": "text/plain;%20charset=utf-8",
        }
        await jetstream.publish("counts", b"1", headers=headers)
        [received] = await receiver.wait_for(1)
    assert received.headers["ce-subject"] == "a%20b%20100%25"
    assert received.headers["ce-old"] == "a%20%22b%22"
    assert received.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_structured_event_of_another_publisher_arrives_as_it_is_without_attributes_made_up(
    nats, receiver
) -> None:
    """NATS binding, section 3: told by its content type. Headers with another id would contradict the body."""
    message = to_structured_event(CloudEvent(ATTRIBUTES, DATA))
    async with running(text_for(nats, receiver)), nats.jetstream() as jetstream:
        await jetstream.publish("counts", message.body, headers={"Content-Type": message.headers["content-type"]})
        [received] = await receiver.wait_for(1)
    assert received.body == message.body
    assert not [name for name in received.headers if name.startswith("ce-")]
    see_that_all_is_there(from_structured_event(message_of(received)))


async def test_a_structured_event_may_say_the_same_in_headers_and_not_something_else(nats, receiver) -> None:
    """HTTP binding, section 3.2.3: "Implementations MAY include the same HTTP headers as defined for the binary mode"."""
    event = CloudEvent(ATTRIBUTES, DATA)
    structured = to_structured_event(event)
    both = HTTPMessage(to_binary_event(event).headers | structured.headers, structured.body)
    async with running(text_for(nats, receiver)) as sidecar:
        await post(sidecar, "", both)
        for name, value in (("ce-id", "8"), ("ce-unknown", "x"), ("ce-datacontenttype", "text/plain")):
            status, told = await sidecar.try_emit("counts", both.body, headers=both.headers | {name: value})
            assert (status, told["reason"]) == (400, "INVALID_HEADER")
            assert told["detail"] == f"the header {name} says something else than the CloudEvent in the body"
        [received] = await receiver.wait_for(1)
    see_that_all_is_there(from_binary_event(message_of(received)))


async def test_data_that_is_no_json_survives_in_all_modes(nats, receiver) -> None:
    attributes = ATTRIBUTES | {"datacontenttype": "application/octet-stream"}
    event = CloudEvent(attributes, b"\x00\xff")
    async with running(text_for(nats, receiver)) as sidecar:
        await post(sidecar, "", to_structured_event(event))
        [received] = await receiver.wait_for(1)
    assert received.body == b"\x00\xff"
    assert received.headers["content-type"] == "application/octet-stream"


async def test_an_empty_batch_is_fine(nats, receiver) -> None:
    """HTTP binding, section 3.3.2: "The batch MAY be empty"."""
    async with running(text_for(nats, receiver)) as sidecar:
        await post(sidecar, "/batch", HTTPMessage({"Content-Type": "application/cloudevents-batch+json"}, b"[]"))
        await until(sidecar.is_ready)
    assert receiver.received == []
