"""Somebody else deletes and changes streams and consumers behind the back of the sidecars that use them."""

import dataclasses
import json

from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from faults.scenario import Scenario
from faults.sidecar import Sidecar
from faults.stage import ACK_WAIT_S, ACTORS, IN_FLIGHT, PATIENCE_S, Form, Stage
from support.waiting import until

CONSUMERS = [(event, actor) for event, actors in ACTORS.items() for actor in actors]


async def somebody_meddles(stage: Stage) -> None:
    """Consumers deleted, consumers and streams changed under load, streams deleted between two loads."""
    nats = await stage.start_nats()
    for _ in range(2):
        await stage.start_sidecar(nats.url, emit={"timeout": 2})
    for _ in range(stage.form.rounds):
        async with stage.load():
            await stage.progress()
            await _change(stage)
            await stage.progress()
            await _delete_consumer(stage)
            await stage.progress()
        await stage.settle()
        event = stage.chance.choice(list(ACTORS))
        stage.note("stream deleted")
        stage.ledger.forget_sequences(event)
        async with stage.jetstream() as jetstream:
            await jetstream.delete_stream(event)
    async with stage.load():
        await stage.progress()
    await stage.settle()
    stage.figures["gone with deleted consumers"] = stage.ledger.gone


async def _change(stage: Stage) -> None:
    """Change a consumer and a stream; where they were declared otherwise it is told as drift, and it costs nothing."""
    event, actor = stage.chance.choice(CONSUMERS)
    async with stage.jetstream() as jetstream:
        stage.note("consumer changed")
        info = await jetstream._api_request(f"$JS.API.CONSUMER.INFO.{event}.{actor}", b"")
        config = info["config"] | {"ack_wait": (ACK_WAIT_S - 1) * 1_000_000_000, "max_ack_pending": 7}
        update = {"stream_name": event, "action": "update", "config": config}
        await jetstream._api_request(f"$JS.API.CONSUMER.CREATE.{event}.{actor}", json.dumps(update).encode())
        stage.note("stream changed")
        stream = (await jetstream.stream_info(event)).config
        await jetstream.update_stream(dataclasses.replace(stream, max_msgs=1_000_000, description="mine now"))
    for sidecar in stage.sidecars:
        await until(
            lambda it=sidecar: _tells_drift(it, event, actor), timeout_s=PATIENCE_S, what="the drift to be told"
        )


async def _tells_drift(sidecar: Sidecar, event: str, actor: str) -> bool:
    found = await _actor(sidecar, event, actor)
    return "ack_wait" in found["drift"]


async def _delete_consumer(stage: Stage) -> None:
    """Delete a consumer; what its actor had not handled may be gone with it, and what comes once it is there again is not."""
    event, actor = stage.chance.choice(CONSUMERS)
    stage.note(
        "consumer deleted", repeats=IN_FLIGHT * len(stage.sidecars), why="unsettled when their consumer was deleted"
    )
    stage.ledger.begin_to_excuse(actor)
    async with stage.jetstream() as jetstream:
        await jetstream.delete_consumer(event, actor)
        await until(
            lambda: _is_there(jetstream, event, actor), timeout_s=PATIENCE_S, what="the consumer to be made again"
        )
    await stage.progress()  # emits under way had their answers
    stage.ledger.end_excuse(actor)


async def _is_there(jetstream: JetStreamContext, event: str, actor: str) -> bool:
    try:
        await jetstream.consumer_info(event, actor)
    except (NotFoundError, Error):
        return False
    return True


async def _actor(sidecar: Sidecar, event: str, actor: str) -> dict[str, list[str]]:
    assert sidecar.sidecar is not None
    async with sidecar.sidecar.session.get(f"http://{sidecar.sidecar.admin}/admin/v1/actors") as response:
        items = (await response.json())["items"]
    return next(each for each in items if (each["event"], each["name"]) == (event, actor))


SCENARIOS = [
    Scenario(
        "somebody-meddles", 5, somebody_meddles,
        Form(rounds=1, rate=100, hold_s=0, flow_s=0.5), Form(rounds=8, rate=200, hold_s=0),
    ),
]  # fmt: skip
