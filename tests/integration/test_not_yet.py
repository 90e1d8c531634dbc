"""What the contract has and this version has not is answered honestly: not supported yet."""

from typing import Any

import grpc
import pytest

from support.daemon import config_text, running
from support.doors import read_answer, refusal
from support.grpc_calls import refused, stubs
from support.streams import keep_messages, stored
from walnatsd.v1 import events_pb2


async def first(call: Any) -> Any:
    """The answer of a call, the first one of a stream."""
    if hasattr(call, "read"):
        return await call.read()
    return await call


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("Monitor", lambda stubs: stubs.events.Monitor(events_pb2.MonitorRequest())),
    ],
)
async def test_methods_of_later_versions_are_unimplemented(nats, name, call) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, stubs(sidecar.grpc) as calls:
        await keep_messages(nats)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await first(call(calls))
    told = refused(caught.value)
    assert (told.code, told.reason, told.maybe_stored) == ("UNIMPLEMENTED", "NOT_SUPPORTED", False)
    assert told.message == f"{name} is not supported yet by this version"
    assert await stored(nats) == []


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v1/events/counts/monitor", {}),
    ],
)
async def test_http_calls_of_later_versions_are_answered_with_501(nats, method, path, headers) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        url = f"http://{sidecar.http}{path}"
        data = b"[]" if method == "POST" else None
        async with sidecar.session.request(method, url, data=data, headers=headers) as response:
            told = refusal(await read_answer(response))
    assert (told.code, told.reason) == ("501", "NOT_SUPPORTED")
    assert "not supported yet" in told.message
    assert await stored(nats) == []
