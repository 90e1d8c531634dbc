"""`connect_sync`: the connection of code that is not async."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

import walnatsd_client as walnatsd
from emit_sidecar import Context, Sidecar, refuse_with
from walnatsd_client._proto import events_pb2

COUNT = walnatsd.Event("counts", int)
WORDS = walnatsd.Event("words", str).with_response(int)


class Asked(Sidecar):
    """Answers requests with the number of words."""

    async def Call(self, request: events_pb2.CallRequest, _: Context) -> events_pb2.CallResponse:  # noqa: N802
        return events_pb2.CallResponse(payload=b"%d" % len(request.emit.payload.split()))


@pytest.fixture
def sidecar() -> Asked:
    return Asked()


@pytest.fixture
def target(sidecar: Asked, tmp_path: Path) -> Iterator[str]:
    """The address of the sidecar, which is served in a thread: the tests block."""
    address = f"unix:{tmp_path}/grpc.sock"
    serving, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with sidecar.serve(address):
            serving.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    serving.wait()
    yield address
    done.set()
    thread.join()


def test_it_registers_emits_and_asks_without_a_loop(sidecar: Asked, target: str) -> None:
    with walnatsd.connect_sync(target) as conn:
        [registered] = conn.register(COUNT)
        receipt = conn.emit(COUNT, 1, uid="one", delay=5, headers={"team": "a"})
        answer = conn.request(WORDS, "some more text", timeout=10)
    assert registered.created
    assert (receipt.uid, receipt.sequence) == ("one", 1)
    assert (sidecar.emitted[0].delay.seconds, dict(sidecar.emitted[0].headers)) == (5, {"team": "a"})
    assert answer == 3


def test_its_options_are_those_of_the_async_connection() -> None:
    for name in ("register", "emit", "request"):
        ours, theirs = (inspect.signature(getattr(c, name)) for c in (walnatsd.SyncConnection, walnatsd.Connection))
        assert str(ours) == str(theirs)


def test_errors_are_raised_in_the_thread_that_called(sidecar: Asked, target: str) -> None:
    sidecar.emit = refuse_with("EVENT_FULL", code=grpc.StatusCode.RESOURCE_EXHAUSTED)
    with walnatsd.connect_sync(target) as conn:
        with pytest.raises(walnatsd.CapacityError, match="because"):
            conn.emit(COUNT, 1)
        with pytest.raises(ValueError, match="either"):
            conn.emit(COUNT, 1, delay=1, deliver_at=datetime.now(UTC))


def test_many_threads_may_use_it_at_once(sidecar: Asked, target: str) -> None:
    with walnatsd.connect_sync(target) as conn, ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(lambda number: conn.emit(COUNT, number), range(400)))
    assert sorted(receipt.sequence for receipt in receipts) == list(range(1, 401))
    assert len(sidecar.stored) == 400


def test_closing_it_ends_calls_of_other_threads_and_leaves_no_thread(sidecar: Asked, target: str) -> None:
    arrived = threading.Semaphore(0)

    async def hang(_: events_pb2.EmitRequest, __: Context) -> events_pb2.EmitResponse:
        arrived.release()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    sidecar.emit = hang
    before = set(threading.enumerate())
    conn = walnatsd.connect_sync(target)
    with ThreadPoolExecutor(3) as pool:
        emits = [pool.submit(conn.emit, COUNT, number) for number in range(3)]
        for _ in emits:
            assert arrived.acquire(timeout=30)
        conn.close()
        errors = [emit.exception(timeout=30) for emit in emits]
    assert [type(error) for error in errors] == [walnatsd.UnavailableError] * 3
    assert {thread.name for thread in set(threading.enumerate()) - before} <= {"asyncio_0"}
    with pytest.raises(RuntimeError, match="the connection is closed"):
        conn.emit(COUNT, 1)
    conn.close()  # once more does nothing


def test_it_works_beside_an_async_connection_in_the_same_process(sidecar: Asked, target: str) -> None:
    async def emit_from_the_loop() -> int:
        async with walnatsd.connect(target) as conn:
            receipts = await asyncio.gather(*(conn.emit(COUNT, number) for number in range(50)))
            return len(receipts)

    with walnatsd.connect_sync(target) as conn:
        conn.emit(COUNT, 0)
        assert asyncio.run(emit_from_the_loop()) == 50
        conn.emit(COUNT, 1)
    assert len(sidecar.stored) == 52


CODE = """
import os, sys
import walnatsd_client as walnatsd

conn = walnatsd.connect_sync(sys.argv[1])
COUNT = walnatsd.Event("counts", int)
if sys.argv[2] == "fork":
    if os.fork() == 0:
        print(conn.emit(COUNT, 1).sequence, flush=True)
    else:
        os.wait()
elif sys.argv[2] == "late fork":
    conn.emit(COUNT, 1)
    if os.fork() == 0:
        try:
            conn.emit(COUNT, 2)
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    else:
        os.wait()
else:
    print(conn.emit(COUNT, 1).sequence)
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("alone", "1"),
        ("fork", "1"),
        ("late fork", "the connection was used before this process was forked; make one in each process"),
    ],
)
def test_an_application_may_leave_it_open_and_fork_before_it_is_used(target: str, how: str, said: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE, target, how], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, said)
    assert "Traceback" not in result.stderr


def test_an_interrupt_ends_the_call_and_the_connection_stays_good(sidecar: Asked, target: str) -> None:
    arrived = threading.Event()

    async def hang(_: events_pb2.EmitRequest, __: Context) -> events_pb2.EmitResponse:
        arrived.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    sidecar.emit = hang
    with walnatsd.connect_sync(target) as conn:

        def interrupt() -> None:
            arrived.wait()
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            conn.emit(COUNT, 1)
        sidecar.emit = sidecar.store
        assert conn.emit(COUNT, 2).sequence == 1


def test_a_connection_that_can_not_be_opened_says_so_and_the_next_call_tries_again() -> None:
    opened = 0

    @asynccontextmanager
    async def open_connection() -> AsyncIterator[walnatsd.Connection]:
        nonlocal opened
        opened += 1
        raise OSError("no such thing")
        yield

    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as others, walnatsd.SyncConnection(open_connection) as conn:
        for _ in range(2):
            with pytest.raises(OSError, match="no such thing"):
                others.submit(conn.emit, COUNT, 1).result(timeout=10)
    assert opened == 2
    assert set(threading.enumerate()) <= before
