"""Looking at the schedules of clocks with the plain library."""

import contextlib
from typing import Any

import orjson
from nats.js.errors import NotFoundError

from support.nats_server import NatsServer

SCHEDULES = "walnatsd.schedule.walnatsd-clock."
DUE = "walnatsd.due.walnatsd-clock."


async def subjects(nats: NatsServer, prefix: str = SCHEDULES) -> list[str]:
    """The subjects below a prefix on which something is stored in walnatsd's own stream."""
    async with nats.jetstream() as jetstream:
        with contextlib.suppress(NotFoundError):
            body = orjson.dumps({"subjects_filter": f"{prefix}>"})
            state = (await jetstream._api_request("$JS.API.STREAM.INFO.walnatsd", body))["state"]
            return sorted(state.get("subjects") or ())
        return []


async def schedule(nats: NatsServer, stream: str, number: int = 0) -> tuple[int, dict[str, str]]:
    """Sequence and headers of a schedule."""
    async with nats.jetstream() as jetstream:
        message = await jetstream.get_last_msg("walnatsd", f"{SCHEDULES}{stream}.{number}")
    assert message.seq is not None
    return message.seq, dict(message.headers or {})


async def purge(nats: NatsServer, subject: str) -> None:
    """Remove what is stored on a subject, behind walnatsd's back."""
    async with nats.jetstream() as jetstream:
        await jetstream.purge_stream("walnatsd", subject=subject)


async def last_sequence(nats: NatsServer) -> int:
    """The sequence of walnatsd's own stream."""
    async with nats.jetstream() as jetstream:
        return int((await jetstream.stream_info("walnatsd")).state.last_seq)


def tick_of(uid: str) -> tuple[str, int]:
    """Event and instant of a tick, from its uid."""
    kind, event, at = uid.split(":")
    assert kind == "clock"
    return event, int(at)


async def declare_as(nats: NatsServer, stream: str, **headers: Any) -> None:
    """Store the schedule of a clock over the one that is there, with other headers; None takes one out."""
    _, present = await schedule(nats, stream)
    changed = {name: value for name, value in (present | headers).items() if value is not None}
    for name in ("Nats-Rollup", "Nats-Expected-Last-Subject-Sequence"):
        changed.pop(name, None)
    async with nats.jetstream() as jetstream:
        await jetstream.publish(f"{SCHEDULES}{stream}.0", headers=changed)
