"""Emits that come one at a time share a stream, and nobody sees a difference but in how long they take."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import walnatsd_client as walnatsd
from emit_sidecar import COUNT, Context, Gate, Sidecar, emit_together, refuse_with
from support.waiting import until
from walnatsd_client import _line
from walnatsd_client._proto import events_pb2

FULL = refuse_with("EVENT_FULL", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_s=3)


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


async def open_line(conn: walnatsd.Connection, *, timeout: float = 15.0) -> None:  # noqa: ASYNC109 - of the emits
    """Emit until a line is there and free."""

    async def is_there() -> bool:
        await conn.emit(COUNT, 0, timeout=timeout)
        line = conn._gathering._calls._line
        return line is not None and line.is_free and line.timeout_s == timeout

    await until(is_there)


def line_tasks() -> list["asyncio.Task[object]"]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "emit/line"]


class Hanging:
    """An Emit that stores and never answers, until it is cancelled."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self.arrived = asyncio.Event()
        self.cancelled = asyncio.Event()
        sidecar.emit = self.emit

    async def emit(self, request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        await self._sidecar.store(request, context)
        self.arrived.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


async def test_who_emits_one_at_a_time_does_so_over_one_stream(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await open_line(conn)
    before = len(sidecar.on_line)
    receipts = [await conn.emit(COUNT, number, uid=f"uid-{number}") for number in range(20)]
    assert [receipt.uid for receipt in receipts] == [f"uid-{number}" for number in range(20)]
    assert [int(request.payload) for request in sidecar.on_line[before:]] == list(range(20))
    assert len(sidecar.lines) == 1


async def test_a_single_emit_opens_no_stream(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await conn.emit(COUNT, 1)
    assert line_tasks() == []
    assert sidecar.lines == []


async def test_a_refusal_on_the_line_is_the_error_of_its_emit_and_the_line_stays(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    await open_line(conn)
    sidecar.emit = FULL
    with pytest.raises(walnatsd.CapacityError) as caught:
        await conn.emit(COUNT, 7, uid="seven")
    error = caught.value
    assert (error.reason, error.uid, error.retry_after, error.maybe_stored) == ("EVENT_FULL", "seven", 3, False)
    sidecar.emit = sidecar.store
    await conn.emit(COUNT, 8)
    assert [int(request.payload) for request in sidecar.on_line[-2:]] == [7, 8]
    assert len(sidecar.lines) == 1


async def test_while_an_emit_is_on_the_line_others_go_beside_it(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await open_line(conn)
    gate = Gate(sidecar, COUNT)
    slow = asyncio.create_task(conn.emit(COUNT, 1))
    await gate.arrived.wait()
    assert int(sidecar.on_line[-1].payload) == 1
    word = walnatsd.Event("words", str)
    assert (await conn.emit(word, "beside")).stream == "words"
    assert sidecar.on_line[-1].event == COUNT.name
    gate.open.set()
    await slow


async def test_a_line_that_breaks_loses_nothing_and_stores_nothing_twice(sidecar: Sidecar, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn:
        async with sidecar.serve(address):
            await open_line(conn)
            hanging = Hanging(sidecar)
            emit = asyncio.create_task(conn.emit(COUNT, 7, uid="seven"))
            await hanging.arrived.wait()
            assert sidecar.on_line[-1].uid == "seven"
        sidecar.emit = sidecar.store
        async with sidecar.serve(address):
            receipt = await emit
            assert (receipt.uid, receipt.duplicate) == ("seven", True)
            await conn.emit(COUNT, 8)


async def test_an_error_after_a_broken_line_says_that_the_message_may_be_stored(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn:
        async with sidecar.serve(address):
            await open_line(conn)
            hanging = Hanging(sidecar)
            emit = asyncio.create_task(conn.emit(COUNT, 7))
            await hanging.arrived.wait()
        sidecar.emit = FULL
        async with sidecar.serve(address):
            with pytest.raises(walnatsd.CapacityError) as caught:
                await emit
    assert caught.value.maybe_stored


async def test_what_a_sidecar_that_stops_did_not_take_in_is_known_not_to_be_stored(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = refuse_with("STOPPING", code=grpc.StatusCode.UNAVAILABLE)

    await open_line(conn)
    monkeypatch.setattr(sidecar, "_result", lambda request, context: stopping(request, sidecar.lines[-1]))
    refused = asyncio.Event()

    async def full(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        refused.set()
        return await FULL(request, context)

    sidecar.emit = full
    with pytest.raises(walnatsd.CapacityError) as caught:
        await conn.emit(COUNT, 7)
    assert refused.is_set()
    assert not caught.value.maybe_stored


async def test_an_emit_that_is_cancelled_on_the_line_is_dropped_by_the_sidecar(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    await open_line(conn)
    hanging = Hanging(sidecar)
    emit = asyncio.create_task(conn.emit(COUNT, 7))
    await hanging.arrived.wait()
    emit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await emit
    await hanging.cancelled.wait()
    sidecar.emit = sidecar.store
    assert (await conn.emit(COUNT, 8, uid="eight")).uid == "eight"


async def test_an_emit_that_gets_no_answer_on_the_line_ends_in_time_and_is_dropped_by_the_sidecar(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    await open_line(conn, timeout=1.0)
    hanging = Hanging(sidecar)
    with pytest.raises(walnatsd.UnavailableError, match="no answer from the sidecar within 1 s") as caught:
        await conn.emit(COUNT, 7, uid="seven", timeout=1.0)
    assert sidecar.on_line[-1].uid == "seven"
    assert (caught.value.uid, caught.value.maybe_stored) == ("seven", True)
    await hanging.cancelled.wait()
    sidecar.emit = sidecar.store
    assert (await conn.emit(COUNT, 8, uid="eight", timeout=1.0)).uid == "eight"


async def test_the_sidecar_is_told_how_long_the_callers_on_a_line_wait(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    for timeout in (15.0, 2.5):  # where the timeout changes for good, another line takes the place
        await open_line(conn, timeout=timeout)
        told = dict(sidecar.lines[-1].invocation_metadata())[_line.TIMEOUT]
        assert float(told) == timeout
    assert len(sidecar.lines) == 2


async def test_a_sidecar_that_does_not_know_lines_gets_calls(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = asyncio.Event()

    async def silent(requests: AsyncIterator[events_pb2.EmitRequest], _: Context) -> Any:
        opened.set()
        async for request in requests:
            yield await sidecar._result(request, _)

    monkeypatch.setattr(sidecar, "EmitStream", silent)
    async with sidecar.serve() as target, walnatsd.connect(target) as conn:
        for number in range(5):
            await conn.emit(COUNT, number)
        await opened.wait()
        await conn.emit(COUNT, 5)
    assert len(sidecar.stored) == 6
    assert line_tasks() == []


async def test_the_token_is_sent_with_a_line_too(sidecar: Sidecar) -> None:
    async with sidecar.serve() as target, walnatsd.connect(target, token="s3cret") as conn:
        await open_line(conn)
    assert dict(sidecar.lines[0].invocation_metadata())["authorization"] == "Bearer s3cret"


class Counting(grpc.aio.UnaryUnaryClientInterceptor):
    """Sees calls, as instrumentation does."""

    def __init__(self) -> None:
        self.seen = 0

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        self.seen += 1
        return await continuation(client_call_details, request)


async def test_where_calls_are_intercepted_each_emit_is_one(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's instrumentation puts the trace of an emit into the metadata of its call."""
    counting, plain = Counting(), grpc.aio.insecure_channel
    monkeypatch.setattr(
        grpc.aio, "insecure_channel", lambda *given, **options: plain(*given, interceptors=[counting], **options)
    )
    async with sidecar.serve() as target, walnatsd.connect(target) as conn:
        for number in range(10):
            await conn.emit(COUNT, number)
    assert counting.seen == 10
    assert sidecar.lines == []


async def test_a_line_that_nobody_uses_is_closed(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_line, "IDLE_S", 0.05)
    await open_line(conn)
    await until(lambda: not line_tasks())
    await until(sidecar.lines[0].done)
    assert (await conn.emit(COUNT, 8, uid="eight")).uid == "eight"


async def test_leaving_the_connection_tells_who_is_on_the_line_and_leaves_no_task_behind(sidecar: Sidecar) -> None:
    async with sidecar.serve() as target:
        async with walnatsd.connect(target) as conn:
            await open_line(conn)
            hanging = Hanging(sidecar)
            emit = asyncio.create_task(conn.emit(COUNT, 7))
            await hanging.arrived.wait()
        with pytest.raises(walnatsd.UnavailableError, match="closed here") as caught:
            await emit
    assert caught.value.maybe_stored
    assert line_tasks() == []


async def test_a_crowd_leaves_the_line_alone(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await open_line(conn)
    before = len(sidecar.on_line)
    await emit_together(conn, *range(50))
    assert len(sidecar.on_line) - before <= 1  # the first does not know yet
    assert sum(map(len, sidecar.batches)) == 49
