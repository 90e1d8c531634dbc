"""From walnats' emit to walnats' handler, at 200 a second.

python -m benchmarks.loads.latency ADDRESS COUNT
"""

import asyncio
import json
import statistics
import sys
import time

import uvloop
import walnats

PACE_S = 0.005


async def main() -> None:
    address, count = sys.argv[1], int(sys.argv[2])
    waits: list[float] = []
    done = asyncio.Event()

    async def handle(sent: float) -> None:
        waits.append(time.monotonic() - sent)
        if len(waits) == count:
            done.set()

    event = walnats.Event("latency", float)
    actor = walnats.Actor("print", event, handle)
    async with (
        walnats.Events(event).connect(address) as events,
        walnats.Actors(actor).connect(address) as actors,
        asyncio.TaskGroup() as tasks,
    ):
        await events.register()
        await actors.register()
        listening = tasks.create_task(actors.listen())
        begin = time.monotonic()
        for number in range(count):
            await asyncio.sleep(begin + number * PACE_S - time.monotonic())
            tasks.create_task(events.emit(event, time.monotonic(), sync=True))
        await done.wait()
        listening.cancel()
    p99 = statistics.quantiles(waits, n=100)[98]
    print(json.dumps({"walnats p50": statistics.median(waits) * 1e3, "walnats p99": p99 * 1e3}))


if __name__ == "__main__":
    uvloop.run(main())
