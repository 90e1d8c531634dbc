"""A service that emits counts: `python publisher.py 127.0.0.1:7520 300`."""

import asyncio
import sys

import walnatsd_client as walnatsd

COUNT = walnatsd.Event("counts", int)


async def main(sidecar: str, last: int) -> None:
    async with walnatsd.connect(sidecar) as conn:
        for number in range(1, last + 1):
            await conn.emit(COUNT, number)  # returns once NATS has stored it, however long NATS is away meanwhile
            print(number, flush=True)
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
