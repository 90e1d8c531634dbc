"""Payloads against the schema of their event, when they are emitted."""

import json

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from support.daemon import config_text, running
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError
from walnatsd.v1 import events_pb2, events_pb2_grpc

PARCEL = {"type": "object", "properties": {"weight": {"type": "number", "minimum": 0}}, "required": ["weight"]}


@pytest.fixture
def file(tmp_path) -> str:
    (tmp_path / "parcel.json").write_text(json.dumps(PARCEL))
    return str(tmp_path / "walnatsd.yaml")


def text_for(url: str, receiver_url: str = "http://127.0.0.1:1/", **event: object) -> str:
    events = [{"name": "parcels", "schema": {"json_schema": "parcel.json"}} | event]
    return config_text(url, events=events, actors=[{"name": "print", "event": "parcels", "url": receiver_url}])


async def test_what_does_not_fit_is_refused_with_its_place_and_nothing_is_stored(nats, receiver, file) -> None:
    async with running(text_for(nats.url, receiver.url), file=file) as sidecar:
        status, problem = await sidecar.try_emit("parcels", '{"weight": -1}', uid="one")
        assert (status, problem["reason"], problem["uid"]) == (422, "SCHEMA", "one")
        assert problem["detail"] == "/weight: -1 is less than the minimum of 0"
        status, problem = await sidecar.try_emit("parcels", "no json")
        assert (status, problem["reason"]) == (422, "SCHEMA")
        async with grpc.aio.insecure_channel(sidecar.grpc) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await events_pb2_grpc.EventsStub(channel).Emit(events_pb2.EmitRequest(event="parcels", payload=b"{}"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        assert status_pb2.Status.FromString(details).details[0].Unpack(info)
        assert info.reason == "SCHEMA"
        await sidecar.emit("parcels", '{"weight": 1.5}')
        [received] = await receiver.wait_for(1)
        assert received.headers["walnats-sequence"] == "1"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"schema": {"json_schema": "missing.json"}}, "there is no readable file"),
        ({"schema": {"json_schema": "walnatsd.yaml"}}, "is not JSON"),
        ({"example": {"weight": -1}}, "events[0].example: does not fit the schema: /weight: -1 is less than"),
        ({"example": {"weight": float("nan")}}, "events[0].example: is no JSON, which has neither .nan nor .inf"),
        ({"schema": {"protobuf": "parcel.json", "message": "a.B"}}, "is no descriptor set"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_config_error(file, event, words, tmp_path) -> None:
    (tmp_path / "walnatsd.yaml").write_text("a: b")
    with pytest.raises(ConfigError) as caught:
        load_text(text_for("nats://127.0.0.1:1", **event), file=file, environ={})
    assert words in str(caught.value)


def test_an_example_that_fits_is_fine(file) -> None:
    load_text(text_for("nats://127.0.0.1:1", example={"weight": 2}), file=file, environ={})


def test_a_number_of_many_digits_in_an_example_ended_the_daemon_with_a_traceback(file) -> None:
    load_text(text_for("nats://127.0.0.1:1", example={"weight": 10**30}), file=file, environ={})
