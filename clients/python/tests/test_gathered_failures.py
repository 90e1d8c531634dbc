"""What happens to one of the emits that travel together happens to no other."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest

import walnatsd_client as walnatsd
from emit_sidecar import COUNT, Context, Gate, Sidecar, emit_together, refuse_with
from support.waiting import until
from walnatsd_client import _gathering
from walnatsd_client._proto import events_pb2

WORD = walnatsd.Event("words", str)


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


def carriers() -> list["asyncio.Task[object]"]:
    """The tasks that carry batches."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("emit/")]


async def test_a_refused_item_raises_its_own_error_and_the_others_are_stored(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    refuse = refuse_with("EVENT_FULL", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_s=3)

    async def refuse_sevens(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        emit = refuse if request.payload == b"7" else sidecar.store
        return await emit(request, context)

    sidecar.emit = refuse_sevens
    results = await emit_together(conn, *range(10))
    assert sorted(sidecar.stored) == [f"uid-{number}" for number in range(10) if number != 7]
    [error] = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(error, walnatsd.CapacityError)
    assert (error.reason, error.message, error.uid, error.retry_after) == ("EVENT_FULL", "because", "uid-7", 3)
    assert not error.maybe_stored


async def test_a_refusal_of_the_whole_call_is_raised_in_each_with_its_own_uid(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(_request: object, context: Context) -> events_pb2.EmitBatchResponse:
        await context.abort(grpc.StatusCode.INTERNAL, "oh")
        raise AssertionError

    monkeypatch.setattr(sidecar, "EmitBatch", break_down)
    async with sidecar.serve() as target, walnatsd.connect(target) as conn:
        results = await emit_together(conn, *range(3))
    errors = [result for result in results if isinstance(result, walnatsd.WalnatsdError)]
    assert [(error.uid, error.reason, error.maybe_stored) for error in errors] == [
        ("uid-1", "INTERNAL", True),
        ("uid-2", "INTERNAL", True),
    ]


async def test_an_answer_with_too_few_results_leaves_nobody_waiting(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(_request: object, _context: Context) -> events_pb2.EmitBatchResponse:
        return events_pb2.EmitBatchResponse()

    monkeypatch.setattr(sidecar, "EmitBatch", forget)
    async with sidecar.serve() as target, walnatsd.connect(target) as conn:
        results = await emit_together(conn, *range(3))
    errors = [result for result in results if isinstance(result, walnatsd.WalnatsdError)]
    assert [(error.uid, error.message) for error in errors] == [
        ("uid-1", "the sidecar gave 0 results for 2 emits"),
        ("uid-2", "the sidecar gave 0 results for 2 emits"),
    ]


async def test_cancelling_one_emit_disturbs_no_other(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await emit_together(conn, 100, 101, 102)  # a crowd: the next ones travel together
    gate = Gate(sidecar)
    emits = [asyncio.create_task(conn.emit(COUNT, number)) for number in range(5)]
    await gate.arrived.wait()
    emits[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await emits[2]
    gate.open.set()
    receipts = await asyncio.gather(*emits[:2], *emits[3:])
    assert len({receipt.sequence for receipt in receipts}) == 4


async def test_an_emit_that_is_cancelled_before_its_departure_is_not_sent(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gathering, "LONGEST_WAIT_S", 3600)
    gate = Gate(sidecar)
    emits = []
    for number in range(5):
        emits.append(asyncio.create_task(conn.emit(COUNT, number)))
        if number < 2:
            gate.arrived.clear()
            await gate.arrived.wait()
    await asyncio.sleep(0)
    emits[3].cancel()
    gate.open.set()
    await asyncio.gather(*emits[:3], emits[4])
    assert sorted(int(request.payload) for request in sidecar.emitted) == [0, 1, 2, 4]


async def test_when_all_of_a_call_are_cancelled_it_is_not_tried_again(sidecar: Sidecar, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn:
        async with sidecar.serve(address):
            await emit_together(conn, 100, 101, 102)
        emits = [asyncio.create_task(conn.emit(COUNT, number)) for number in range(3)]
        await until(lambda: bool(carriers()))
        for emit in emits:
            emit.cancel()
        await asyncio.wait(emits)
        await until(lambda: not carriers())
        async with sidecar.serve(address):
            await conn.emit(COUNT, 7)
    assert sorted(int(request.payload) for request in sidecar.emitted) == [7, 100, 101, 102]


async def test_what_can_not_depart_in_time_is_told_so_and_was_not_stored(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gathering, "MAX_UNDER_WAY", 5)
    gate = Gate(sidecar, COUNT)
    emits = asyncio.gather(*(conn.emit(COUNT, n, timeout=2) for n in range(20)), return_exceptions=True)
    await gate.arrived.wait()
    late = asyncio.gather(*(conn.emit(COUNT, n, timeout=2) for n in range(20, 30)), return_exceptions=True)
    overdue = asyncio.get_running_loop().time() + 10 * _gathering.LONGEST_WAIT_S
    while asyncio.get_running_loop().time() < overdue:
        await conn.emit(WORD, "so time passes")
    assert sum(request.event == COUNT.name for request in sidecar.emitted) == 20
    errors = [error for error in [*await emits, *await late] if isinstance(error, walnatsd.UnavailableError)]
    assert len(errors) == 30
    assert {str(error) for error in errors} == {"SIDECAR_UNAVAILABLE: no answer from the sidecar within 2 s"}
    sent = {request.uid for request in sidecar.emitted}
    assert all(error.maybe_stored for error in errors if error.uid in sent)


async def test_leaving_at_once_tells_those_whose_call_has_not_begun(sidecar: Sidecar) -> None:
    Gate(sidecar)
    async with sidecar.serve() as target:
        async with walnatsd.connect(target) as conn:
            emits = asyncio.ensure_future(emit_together(conn, *range(10)))
            await asyncio.sleep(0)  # they are gathered
            await asyncio.sleep(0)  # they have a task that has not begun
        errors = await emits
    assert [type(error) for error in errors] == [walnatsd.UnavailableError] * 10


async def test_a_batch_that_is_lost_is_retried_under_the_same_uids_and_stored_once(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn:
        async with sidecar.serve(address):
            await emit_together(conn, 100, 101, 102)
            stored: list[str] = []

            async def store_and_hang(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
                await sidecar.store(request, context)
                stored.append(request.uid)
                if len(stored) == 3:
                    arrived.set()
                await asyncio.get_running_loop().create_future()
                raise AssertionError

            arrived = asyncio.Event()
            sidecar.emit = store_and_hang
            emits = asyncio.ensure_future(emit_together(conn, 1, 2, 3))
            await arrived.wait()
        refuse = refuse_with("EVENT_FULL", code=grpc.StatusCode.RESOURCE_EXHAUSTED)

        async def refuse_threes(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
            return await (refuse if request.payload == b"3" else sidecar.store)(request, context)

        sidecar.emit = refuse_threes
        async with sidecar.serve(address):
            *receipts, error = await emits
    assert [receipt.duplicate for receipt in receipts if isinstance(receipt, walnatsd.Receipt)] == [True, True]
    assert isinstance(error, walnatsd.CapacityError)
    assert error.maybe_stored  # the first try may have stored it, and did
    assert len(sidecar.stored) == 6


async def test_without_a_sidecar_each_gets_its_error_in_time(tmp_path: Path) -> None:
    async with walnatsd.connect(f"unix:{tmp_path}/nobody.sock") as conn:
        errors = await asyncio.gather(
            *(conn.emit(COUNT, number, uid=f"uid-{number}", timeout=0.2) for number in range(3)), return_exceptions=True
        )
    assert [
        (error.uid, error.reason, error.maybe_stored) for error in errors if isinstance(error, walnatsd.WalnatsdError)
    ] == [(f"uid-{number}", "SIDECAR_UNAVAILABLE", False) for number in range(3)]


async def test_leaving_the_connection_tells_those_who_wait_and_leaves_no_task_behind(sidecar: Sidecar) -> None:
    emits: list[Awaitable[walnatsd.Receipt]] = []
    async with sidecar.serve() as target:
        async with walnatsd.connect(target) as conn:
            await emit_together(conn, 100, 101, 102)
            gate = Gate(sidecar)
            for number in range(4):
                emits.append(asyncio.ensure_future(conn.emit(COUNT, number)))
                await asyncio.sleep(0)
            await gate.arrived.wait()
        errors = await asyncio.gather(*emits, return_exceptions=True)
    assert [type(error) for error in errors] == [walnatsd.UnavailableError] * 4
    assert {str(error) for error in errors} == {"SIDECAR_UNAVAILABLE: the connection was closed here"}
    assert carriers() == []


async def test_events_that_are_emitted_while_the_connection_is_left_do_not_disturb_the_leaving(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    gate = Gate(sidecar)
    first = [asyncio.create_task(conn.emit(COUNT, number)) for number in range(2)]
    await gate.arrived.wait()
    leaving = asyncio.create_task(conn._gathering.close())
    await asyncio.sleep(0)
    late = asyncio.create_task(conn.emit(WORD, "late"))
    await leaving
    gate.open.set()
    assert isinstance(await first[0], walnatsd.Receipt)  # it went alone, and ends with the channel
    with pytest.raises(walnatsd.UnavailableError):
        await first[1]
    await late
