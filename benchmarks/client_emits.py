"""What the Python client's emits cost on their way to the sidecar: a call each, one stream, or gathered in batches.

    python benchmarks/client_emits.py [--seconds 2] [--rounds 5]

In one run, in turn and several times: a unary call each; one EmitStream, a message each way per emit; the client as it
is. A real nats-server stores the messages, the daemon runs in a process of its own. The columns with an x compare with
unary calls in the same round; the middle one of all rounds is shown.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import walnatsd_client as walnatsd
from support.daemon import config_text, process
from support.nats_server import nats_server
from walnatsd_client._call import call
from walnatsd_client._proto import events_pb2, events_pb2_grpc

PAYLOAD = b"x" * 256
EVENT = walnatsd.Event("counts", bytes)
CALLERS = (1, 2, 8, 64, 256)
SMALL_LOAD_S = 0.2

Emit = Callable[[int], Awaitable[object]]


def request(number: int) -> events_pb2.EmitRequest:
    return events_pb2.EmitRequest(event=EVENT.name, payload=PAYLOAD, uid=f"{time.time_ns()}-{number}")


@contextlib.asynccontextmanager
async def unary(target: str) -> AsyncIterator[Emit]:
    """The client with a call of its own for each emit."""
    async with walnatsd.connect(target) as conn:

        async def emit_alone(_event: str, uid: str, wire: bytes, timeout_s: float) -> events_pb2.EmitResponse:
            message = events_pb2.EmitRequest.FromString(wire)
            return await call(conn._channel, conn._events.Emit, message, timeout_s=timeout_s, uid=uid)

        conn._gathering.emit = emit_alone  # type: ignore[method-assign]
        yield lambda number: conn.emit(EVENT, PAYLOAD, uid=f"{time.time_ns()}-{number}")


@contextlib.asynccontextmanager
async def stream(target: str) -> AsyncIterator[Emit]:
    """One stream; what is emitted while a write is under way is written after it, results come back in order."""
    async with grpc.aio.insecure_channel(target) as channel:
        call = events_pb2_grpc.EventsStub(channel).EmitStream()
        to_write: deque[events_pb2.EmitRequest] = deque()
        waiting: deque[asyncio.Future[object]] = deque()
        there = asyncio.Event()

        async def write() -> None:
            while True:
                await there.wait()
                there.clear()
                while to_write:
                    await call.write(to_write.popleft())

        async def read() -> None:
            while True:
                result = await call.read()
                waiting.popleft().set_result(result)

        async def emit(number: int) -> object:
            to_write.append(request(number))
            waiting.append(future := asyncio.get_running_loop().create_future())
            there.set()
            return await future

        # no result is read before its emit waits: `waiting` is filled by then
        tasks = [asyncio.create_task(write()), asyncio.create_task(read())]
        yield emit
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        call.cancel()


@contextlib.asynccontextmanager
async def client(target: str) -> AsyncIterator[Emit]:
    async with walnatsd.connect(target) as conn:
        yield lambda number: conn.emit(EVENT, PAYLOAD, uid=f"{time.time_ns()}-{number}")


WAYS = {"unary": unary, "stream": stream, "client": client}


async def rate(emit: Emit, callers: int, seconds: float) -> tuple[float, float]:
    """Emits per second, and the median of their times in milliseconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def keep_emitting(caller: int) -> None:
        while (started := time.perf_counter()) < end:
            await emit(caller)
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for caller in range(callers):
            tasks.create_task(keep_emitting(caller))
    return len(times) / (time.perf_counter() - started), statistics.median(times) * 1e3


async def main(seconds: float, rounds: int, callers: list[int]) -> None:
    events = [{"name": EVENT.name, "limits": {"messages": 100_000}}]
    actors = [{"name": "keep", "event": EVENT.name}]  # without an actor nothing would be stored
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            nats_server(Path(folder) / "nats") as nats,
            process(Path(folder) / "sidecar", config_text(nats.url, events=events, actors=actors)) as daemon,
        ):
            assert daemon.sidecar is not None
            for number in range(rounds + 1):
                for count in callers:
                    for name, way in WAYS.items():
                        async with way(daemon.sidecar.grpc) as emit:
                            await rate(emit, count, SMALL_LOAD_S)
                            result = await rate(emit, count, seconds)
                        if number:  # the first round warms up
                            measured.setdefault((name, count), []).append(result)
    print(f"{'callers':>7}  {'way':<7} {'emits/s':>8} {'median ms':>10} {'x emits/s':>10} {'x median':>9}")
    for count in callers:
        for name in WAYS:
            rounds_of, base = measured[name, count], measured["unary", count]
            emits, times = zip(*rounds_of, strict=True)
            faster = statistics.median(a[0] / b[0] for a, b in zip(rounds_of, base, strict=True))
            slower = statistics.median(a[1] / b[1] for a, b in zip(rounds_of, base, strict=True))
            print(
                f"{count:>7}  {name:<7} {statistics.median(emits):>8.0f} {statistics.median(times):>10.2f} "
                f"{faster:>10.2f} {slower:>9.2f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, nargs="*", default=CALLERS)
    asyncio.run(main(**vars(parser.parse_args())))
