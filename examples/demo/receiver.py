"""A service that acts on counts: `uvicorn receiver:app`. The sidecar beside it calls it with each one."""

import asyncio

import walnatsd_client as walnatsd

COUNT = walnatsd.Event("counts", int)


async def show(count: int) -> None:
    await asyncio.sleep(0.1)  # the work
    print(count, flush=True)  # returning means done; an exception means try again


PRINT = walnatsd.Actor("print", COUNT, show)
app = walnatsd.asgi_app(PRINT)
