"""A shop that emits and acts through its sidecar, with FastAPI and walnatsd-client: python shop.py (see ../README.md)."""

import contextlib
import os
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

import walnatsd_client as walnatsd


class Order(BaseModel):
    order_id: int
    item: str


class Parcel(BaseModel):
    order_id: int


ORDER_PLACED = walnatsd.Event("order-placed", Order)
PARCEL_SENT = walnatsd.Event("parcel-sent", Parcel)

shipped: set[int] = set()  # a real shop asks its database


async def ship(order: Order) -> None:
    """Called at least once for each order. A payload that is no order never gets here: it is a dead letter."""
    await sidecar.emit(PARCEL_SENT, Parcel(order_id=order.order_id), uid=f"parcel-{order.order_id}")
    shipped.add(order.order_id)  # to ship it again changes nothing


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    global sidecar
    async with walnatsd.connect(os.environ.get("WALNATSD_GRPC", "127.0.0.1:7520")) as sidecar:
        yield


sidecar: walnatsd.Connection
app = FastAPI(lifespan=lifespan)
# Only what the sidecar has signed is answered. A route, for a mount would redirect /ship to /ship/, which nobody follows.
SHIP = walnatsd.Actor("ship", ORDER_PLACED, ship)
app.add_route("/ship", walnatsd.asgi_app(SHIP, secrets=[os.environ["WEBHOOK_SECRET"]]))


@app.post("/orders", status_code=202)
async def place(order: Order) -> Order:
    """Stored once it has returned, and stored once: the uid makes another try safe."""
    await sidecar.emit(ORDER_PLACED, order, uid=f"order-{order.order_id}")
    return order


@app.get("/parcels")
async def parcels() -> list[int]:
    return sorted(shipped)


@app.get("/healthz", status_code=204)
async def healthz() -> Response:
    return Response(status_code=204)


if __name__ == "__main__":
    uvicorn.run(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
