"""Concurrent emits travel together."""

import asyncio
import statistics

import pytest

import walnatsd_client as walnatsd
from emit_sidecar import COUNT, Context, Gate, Sidecar, emit_together
from support.waiting import until
from walnatsd_client import _gathering
from walnatsd_client._proto import events_pb2

WORD = walnatsd.Event("words", str)
BLOB = walnatsd.Event("blobs", bytes)
PATIENT_S = 3600.0
"""With it, all travel together that are emitted at once, however slow the machine: those whose time ends much later do not."""


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


async def test_concurrent_emits_travel_in_one_call_and_each_gets_its_own_receipt(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    first = await emit_together(conn, *range(20))
    second = await emit_together(conn, *range(20, 40))
    assert [receipt.uid for receipt in first + second if isinstance(receipt, walnatsd.Receipt)] == [
        f"uid-{number}" for number in range(40)
    ]
    # the very first finds nobody beside it and doesn't wait; after that it is known that they come in crowds
    assert [len(batch) for batch in sidecar.batches] == [19, 20]
    assert [int(request.payload) for request in sidecar.batches[1]] == list(range(20, 40))


async def test_a_lone_emit_is_a_call_of_its_own_also_after_a_crowd(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await emit_together(conn, *range(5))
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
    await emit_together(conn, *range(2501), timeout=PATIENT_S)
    sizes = [len(batch) for batch in sidecar.batches]
    assert sizes[:2] == [1000, 1000]
    assert sum(sizes) == 2500  # the rest in one or in two, for two calls may be answered at once
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
    await emit_together(conn, *range(3), timeout=PATIENT_S)
    sidecar.batches.clear()
    gate = Gate(sidecar, COUNT)
    emits = asyncio.ensure_future(emit_together(conn, *range(10, 5010), timeout=PATIENT_S))
    await gate.arrived.wait()
    await until(lambda: len(sidecar.batches) == _gathering.MAX_CALLS)
    await conn.emit(WORD, "that there would be more by now")
    assert len(sidecar.batches) == _gathering.MAX_CALLS
    gate.open.set()
    assert all(isinstance(each, walnatsd.Receipt) for each in await emits)
    sizes = [len(batch) for batch in sidecar.batches]
    assert sizes[:4] == [1000] * 4
    assert sum(sizes) == 5000  # the last thousand in one or in two, for two calls may be answered at once


async def test_a_message_with_very_large_headers_goes_alone_too(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gathering, "MAX_BYTES", 1000)
    await emit_together(conn, *range(3))
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
