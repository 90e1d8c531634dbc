"""Delayed emits: NATS keeps them, and they reach actors when they are due, whoever emitted them and whatever happens."""

import time

from aiohttp import web

from support.daemon import config_text, running
from support.letters import unsettled
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.route import in_stream
from support.waiting import until


def config(nats: NatsServer, receiver: Receiver, **parts: object) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(nats.url, **{"events": [{"name": "counts"}], "actors": [actor], **parts})


def times_of(receiver: Receiver) -> list[tuple[bytes, float]]:
    """Bodies and times of arrival, from now on."""
    arrived: list[tuple[bytes, float]] = []

    async def note(received: Received) -> web.StreamResponse:
        arrived.append((received.body, time.time()))
        return web.Response()

    receiver.answer = note
    return arrived


async def test_a_delayed_emit_is_handled_when_it_is_due_and_not_before(nats, receiver) -> None:
    arrived = times_of(receiver)
    async with running(config(nats, receiver)) as sidecar:
        before = time.time()
        status, answer = await sidecar.try_emit(
            "counts", "7", uid="one", delay="1500ms", headers={"ce-type": "count", "walnats-header-X-Team": "print"}
        )
        assert (status, answer) == (
            202,
            {
                "uid": "one",
                "stream": "counts",
                "sequence": None,
                "duplicate": False,
                "scheduled": True,
                "spooled": False,
            },
        )
        await receiver.wait_for(1)
        await until(lambda: _is_empty(nats))
    [(body, at)] = arrived
    assert body == b"7"
    assert at >= before + 1.5
    [received] = receiver.received
    assert received.attempt == 1
    assert received.headers["walnats-uid"] == "one"
    assert received.headers["ce-type"] == "count"
    assert received.headers["x-team"] == "print"
    assert not [name for name in received.headers if "schedule" in name.lower() or name.lower().startswith("walnatsd")]


async def _is_empty(nats: NatsServer) -> bool:
    """Whether nothing waits anywhere."""
    return (await in_stream(nats), await unsettled(nats)) == (0, 0)
