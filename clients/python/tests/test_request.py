"""`request` against a real gRPC server that plays the sidecar."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

import walnatsd_client as walnatsd
from emit_sidecar import Context, refuse_with
from sidecar_server import Servicer
from walnatsd_client._proto import events_pb2

COUNT_WORDS = walnatsd.Event("count-words", str).with_response(int)
Answer = Callable[[events_pb2.CallRequest, Context], Awaitable[events_pb2.CallResponse]]


class Sidecar(Servicer):
    """Answers as the test says."""

    def __init__(self) -> None:
        self.called: list[events_pb2.CallRequest] = []
        self.time_left_s: list[float] = []
        self.answer: Answer = self.three

    async def Call(self, request: events_pb2.CallRequest, context: Context) -> events_pb2.CallResponse:  # noqa: N802
        self.called.append(request)
        self.time_left_s.append(context.time_remaining())
        return await self.answer(request, context)

    async def three(self, _: events_pb2.CallRequest, __: Context) -> events_pb2.CallResponse:
        return events_pb2.CallResponse(payload=b"3", content_type="application/json")


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


def refusing(reason: str, code: grpc.StatusCode, maybe_stored: str = "false") -> Answer:
    refuse = refuse_with(reason, code=code, maybe_stored=maybe_stored)

    async def answer(request: events_pb2.CallRequest, context: Context) -> events_pb2.CallResponse:
        await refuse(request.emit, context)
        raise AssertionError

    return answer


async def test_a_request_carries_payload_options_and_timeout_and_gives_the_decoded_answer(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    words = await conn.request(
        COUNT_WORDS,
        "some text",
        uid="one",
        trace_id="t",
        headers={"ce-subject": "s"},
        expected_last_sequence=0,
        timeout=7,
    )
    assert words == 3
    [called] = sidecar.called
    assert called.emit == events_pb2.EmitRequest(
        event="count-words", payload=b'"some text"', content_type="application/json", uid="one", trace_id="t",
        headers={"ce-subject": "s"}, expected_last_sequence=0,
    )  # fmt: skip
    assert called.timeout.seconds == 7
    assert sidecar.time_left_s[0] > 7  # so the sidecar's own answer is the one that is seen


async def test_a_request_waits_for_four_seconds_where_nothing_is_said(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    await conn.request(COUNT_WORDS, "x")
    await conn.request(COUNT_WORDS, "x")
    assert [called.timeout.seconds for called in sidecar.called] == [4, 4]
    uids = {called.emit.uid for called in sidecar.called}
    assert len(uids) == 2
    assert "" not in uids


@pytest.mark.parametrize(
    ("reason", "code", "maybe_stored", "family"),
    [
        ("NO_RESPONSE", grpc.StatusCode.DEADLINE_EXCEEDED, "true", walnatsd.NoResponseError),
        ("DEAD_LETTER", grpc.StatusCode.ABORTED, "true", walnatsd.DeadLetterError),
        ("DUPLICATE", grpc.StatusCode.ALREADY_EXISTS, "false", walnatsd.ConflictError),
        ("NO_ACTORS", grpc.StatusCode.FAILED_PRECONDITION, "false", walnatsd.ConflictError),
        ("RESPONSE_TOO_LARGE", grpc.StatusCode.RESOURCE_EXHAUSTED, "true", walnatsd.CapacityError),
    ],
)
async def test_a_request_without_an_answer_raises_the_error_of_its_reason(
    sidecar: Sidecar, conn: walnatsd.Connection, reason, code, maybe_stored, family
) -> None:
    sidecar.answer = refusing(reason, code, maybe_stored)
    with pytest.raises(family) as caught:
        await conn.request(COUNT_WORDS, "x", uid="u")
    assert (caught.value.reason, caught.value.uid) == (reason, "u")
    assert caught.value.maybe_stored is (maybe_stored == "true")
    assert len(sidecar.called) == 1


async def test_an_answer_that_is_not_of_the_schema_is_a_value_error(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    async def nonsense(_: events_pb2.CallRequest, __: Context) -> events_pb2.CallResponse:
        return events_pb2.CallResponse(payload=b'"three"')

    sidecar.answer = nonsense
    with pytest.raises(ValueError):
        await conn.request(COUNT_WORDS, "x")


async def lose_the_sidecar(sidecar: Sidecar, tmp_path: Path, then: Answer) -> "asyncio.Task[int]":
    """A sidecar that goes away while a request waits, and comes again."""
    arrived = asyncio.Event()

    async def hang(_: events_pb2.CallRequest, __: Context) -> events_pb2.CallResponse:
        arrived.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn:
        sidecar.answer = hang
        async with sidecar.serve(address):
            request = asyncio.create_task(conn.request(COUNT_WORDS, "x", timeout=30))
            await arrived.wait()
        sidecar.answer = then
        async with sidecar.serve(address):
            await asyncio.wait([request])
    return request


async def test_a_connection_lost_before_the_message_was_stored_is_made_again_with_the_same_uid(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    request = await lose_the_sidecar(sidecar, tmp_path, sidecar.three)
    assert request.result() == 3
    assert len({called.emit.uid for called in sidecar.called}) == 1


async def test_an_answer_that_was_lost_with_the_connection_is_told_as_such_and_not_as_a_duplicate(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    request = await lose_the_sidecar(sidecar, tmp_path, refusing("DUPLICATE", grpc.StatusCode.ALREADY_EXISTS))
    error = request.exception()
    assert isinstance(error, walnatsd.UnavailableError)
    assert (error.reason, error.maybe_stored, error.uid) == ("SIDECAR_UNAVAILABLE", True, sidecar.called[0].emit.uid)
    assert "its answer is lost" in error.message
