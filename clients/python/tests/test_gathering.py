"""Concurrent emits travel together, and what happens to one of them happens to no other."""

import asyncio
import statistics
from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest

import walnatsd_client as walnatsd
from emit_sidecar import Context, Sidecar, refuse_with
from support.waiting import until
from walnatsd_client import _gathering
from walnatsd_client._proto import events_pb2

COUNT = walnatsd.Event("counts", int)
WORD = walnatsd.Event("words", str)
BLOB = walnatsd.Event("blobs", bytes)


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


class Gate:
    """An Emit that stores nothing until it is opened."""

    def __init__(self, sidecar: Sidecar, *events: walnatsd.Event[int] | walnatsd.Event[str]) -> None:
        self._sidecar = sidecar
        self._events = {event.name for event in events}
        self.arrived = asyncio.Event()
        self.open = asyncio.Event()
        sidecar.emit = self.emit

    async def emit(self, request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        self.arrived.set()
        if not self._events or request.event in self._events:
            await self.open.wait()
        return await self._sidecar.store(request, context)


def carriers() -> list["asyncio.Task[object]"]:
    """The tasks that carry batches."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("emit/")]


async def together(conn: walnatsd.Connection, *numbers: int) -> list[walnatsd.Receipt | BaseException]:
    return await asyncio.gather(
        *(conn.emit(COUNT, number, uid=f"uid-{number}") for number in numbers), return_exceptions=True
    )


async def test_concurrent_emits_travel_in_one_call_and_each_gets_its_own_receipt(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    first = await together(conn, *range(20))
    second = await together(conn, *range(20, 40))
    assert [receipt.uid for receipt in first + second if isinstance(receipt, walnatsd.Receipt)] == [
        f"uid-{number}" for number in range(40)
    ]
    # the very first finds nobody beside it and doesn't wait; after that it is known that they come in crowds
    assert [len(batch) for batch in sidecar.batches] == [19, 20]
    assert [int(request.payload) for request in sidecar.batches[1]] == list(range(20, 40))


async def test_a_lone_emit_is_a_call_of_its_own_also_after_a_crowd(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await together(conn, *range(5))
    batches = len(sidecar.batches)
    for number in range(5, 9):
        await conn.emit(COUNT, number)
    assert len(sidecar.batches) == batches
    assert len(sidecar.emitted) == 9


async def test_what_is_emitted_while_calls_are_under_way_goes_in_the_next_one(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gathering, "LONGEST_WAIT_S", 3600)
    gate = Gate(sidecar)
    async with asyncio.TaskGroup() as tasks:
        for number in range(12):
            tasks.create_task(conn.emit(COUNT, number))
            if number in (0, 1):  # two calls, and the others find them under way
                gate.arrived.clear()
                await gate.arrived.wait()
        gate.open.set()
    assert [len(batch) for batch in sidecar.batches] == [10]


async def test_callers_that_emit_again_and_again_are_shared_out_to_the_calls_evenly(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    """The first one finds nobody beside it. It must not stay alone, with a call for all the others beside it for ever."""

    async def keep_emitting(first: int) -> None:
        for number in range(first, first + 20):
            await conn.emit(COUNT, number)

    await asyncio.gather(*(keep_emitting(caller * 20) for caller in range(64)))
    assert len(sidecar.emitted) == 64 * 20
    assert statistics.median(len(batch) for batch in sidecar.batches) == 32


async def test_a_refused_item_raises_its_own_error_and_the_others_are_stored(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    refuse = refuse_with("EVENT_FULL", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_s=3)

    async def refuse_sevens(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        emit = refuse if request.payload == b"7" else sidecar.store
        return await emit(request, context)

    sidecar.emit = refuse_sevens
    results = await together(conn, *range(10))
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
        results = await together(conn, *range(3))
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
        results = await together(conn, *range(3))
    errors = [result for result in results if isinstance(result, walnatsd.WalnatsdError)]
    assert [(error.uid, error.message) for error in errors] == [
        ("uid-1", "the sidecar gave 0 results for 2 emits"),
        ("uid-2", "the sidecar gave 0 results for 2 emits"),
    ]


async def test_cancelling_one_emit_disturbs_no_other(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await together(conn, 100, 101, 102)  # a crowd: the next ones travel together
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
            await together(conn, 100, 101, 102)
        emits = [asyncio.create_task(conn.emit(COUNT, number)) for number in range(3)]
        await until(lambda: bool(carriers()))
        for emit in emits:
            emit.cancel()
        await asyncio.wait(emits)
        await until(lambda: not carriers())
        async with sidecar.serve(address):
            await conn.emit(COUNT, 7)
    assert sorted(int(request.payload) for request in sidecar.emitted) == [7, 100, 101, 102]


async def test_an_event_that_waits_holds_up_neither_itself_nor_others(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    gate = Gate(sidecar, COUNT)
    async with asyncio.TaskGroup() as tasks:
        for number in range(5):  # each on its own: they must not wait for each other's answers for ever
            tasks.create_task(conn.emit(COUNT, number))
            gate.arrived.clear()
            await gate.arrived.wait()
        assert (await conn.emit(WORD, "other")).sequence == 1
        gate.open.set()


async def test_a_batch_is_never_larger_than_the_sidecar_takes(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await together(conn, *range(2501))
    assert [len(batch) for batch in sidecar.batches] == [1000, 1000, 500]
    sidecar.batches.clear()
    monkeypatch.setattr(_gathering, "MAX_BYTES", 1000)
    await asyncio.gather(*(conn.emit(BLOB, bytes(300)) for _ in range(8)))
    # with what is beside their payloads, three would be too much; the first and the last one are calls of their own
    assert [len(batch) for batch in sidecar.batches] == [2, 2, 2]
    assert len(sidecar.stored) == 2501 + 8


async def test_very_many_at_once_go_batch_after_batch_and_not_all_at_once(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gathering, "LONGEST_WAIT_S", 3600)
    await together(conn, *range(3))
    sidecar.batches.clear()
    gate = Gate(sidecar, COUNT)
    emits = asyncio.ensure_future(together(conn, *range(10, 5010)))
    await gate.arrived.wait()
    await until(lambda: len(sidecar.batches) == _gathering.MAX_CALLS)
    await conn.emit(WORD, "that there would be more by now")
    assert len(sidecar.batches) == _gathering.MAX_CALLS
    gate.open.set()
    assert all(isinstance(each, walnatsd.Receipt) for each in await emits)
    assert [len(batch) for batch in sidecar.batches] == [1000] * 5


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
            emits = asyncio.ensure_future(together(conn, *range(10)))
            await asyncio.sleep(0)  # they are gathered
            await asyncio.sleep(0)  # they have a task that has not begun
        errors = await emits
    assert [type(error) for error in errors] == [walnatsd.UnavailableError] * 10


async def test_a_message_with_very_large_headers_goes_alone_too(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gathering, "MAX_BYTES", 1000)
    await together(conn, *range(3))
    await asyncio.gather(*(conn.emit(COUNT, n, headers={"large": "x" * 2000}) for n in range(3)))
    assert len(sidecar.stored) == 6


async def test_a_large_payload_goes_alone(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    sizes = [10, _gathering.ALONE_BYTES, 10, 10]
    await asyncio.gather(*(conn.emit(BLOB, bytes(size)) for size in sizes))
    assert [[len(request.payload) for request in batch] for batch in sidecar.batches] == [[10, 10]]
    assert sorted(len(request.payload) for request in sidecar.emitted) == sorted(sizes)


async def test_the_sidecar_is_told_how_long_the_callers_of_a_batch_wait(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    remaining: dict[bytes, float] = {}

    async def look(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        remaining[request.payload] = context.time_remaining()
        return await sidecar.store(request, context)

    sidecar.emit = look
    await asyncio.gather(*(conn.emit(COUNT, number, timeout=100 if number % 2 else 7) for number in range(10)))
    assert [len(batch) for batch in sidecar.batches] == [4, 4]
    assert all((left > 50) == bool(int(payload) % 2) for payload, left in remaining.items())
    assert all(0 < left < 8 for payload, left in remaining.items() if not int(payload) % 2)


async def test_a_batch_that_is_lost_is_retried_under_the_same_uids_and_stored_once(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn:
        async with sidecar.serve(address):
            await together(conn, 100, 101, 102)
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
            emits = asyncio.ensure_future(together(conn, 1, 2, 3))
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
            await together(conn, 100, 101, 102)
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


async def test_an_emit_has_all_of_its_time_though_it_gathered_with_older_ones(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gathering, "MAX_UNDER_WAY", 1)  # so that the others gather for as long as the first takes
    arrived, first_may_go, all_may_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def emit(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        arrived.set()
        await (first_may_go if request.uid == "first" else all_may_go).wait()
        return await sidecar.store(request, context)

    sidecar.emit = emit
    first = asyncio.create_task(conn.emit(COUNT, 0, uid="first", timeout=2))
    await arrived.wait()
    older = asyncio.create_task(conn.emit(COUNT, 1, timeout=2))
    await asyncio.sleep(1)  # the time of the older one passes
    younger = asyncio.create_task(conn.emit(COUNT, 2, timeout=2))
    await asyncio.sleep(0)
    first_may_go.set()
    await first
    with pytest.raises(walnatsd.UnavailableError, match="within 2 s"):
        await older
    all_may_go.set()
    assert isinstance(await younger, walnatsd.Receipt)
