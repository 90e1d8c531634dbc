"""One actor on one event, as most tests of delivery need it, and what the server says of it."""

from typing import Any

from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from support.daemon import Sidecar, config_text
from support.nats_server import NatsServer
from support.receiver import Receiver


def one_actor(nats: NatsServer, receiver: Receiver, **options: Any) -> str:
    """The config of an actor `print` on the event `counts` that retries soon."""
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05], "jitter": 0}}
    return config_text(nats.url, events=[{"name": "counts"}], actors=[actor | options])


async def declare(jetstream: JetStreamContext, event: str, actor: str) -> None:
    """Make stream and consumer before there is a daemon, so that messages can wait for it."""
    await jetstream.add_stream(name=event, subjects=[event], retention="interest")
    await jetstream.add_consumer(event, durable_name=actor, ack_policy="explicit", max_ack_pending=1000)


async def fill(jetstream: JetStreamContext, event: str, count: int) -> None:
    """Store numbers as messages, quickly: only every thousandth is waited for, and then all before are stored."""
    for number in range(count):
        if number % 1000 == 999 or number == count - 1:
            await jetstream.publish(event, str(number).encode())
        else:
            await jetstream._nc.publish(event, str(number).encode())


async def unsettled(jetstream: JetStreamContext, event: str = "counts", actor: str = "print") -> int:
    """How many messages the actor has not settled."""
    info = await jetstream.consumer_info(event, actor)
    return (info.num_ack_pending or 0) + (info.num_pending or 0)


async def handed_over(jetstream: JetStreamContext, event: str = "counts", actor: str = "print") -> int:
    """How often the server has handed over a message, redeliveries included."""
    info: ConsumerInfo = await jetstream.consumer_info(event, actor)
    assert info.delivered is not None
    return info.delivered.consumer_seq


class Gauges:
    """The flow control of an actor, as /metrics shows it."""

    def __init__(self, sidecar: Sidecar, event: str = "counts", actor: str = "print") -> None:
        self._sidecar = sidecar
        self._labels = f'actor="{actor}",event="{event}"'

    async def window(self) -> float:
        return await self._of("walnatsd_window")

    async def held_s(self) -> float:
        return await self._of("walnatsd_held_seconds")

    async def breaker_is_open(self) -> bool:
        return await self._of("walnatsd_breaker_open") == 1

    async def gate(self) -> str:
        """The one state that is 1."""
        samples = await self._sidecar.metrics()
        begin = f"walnatsd_gate{{{self._labels},state="
        [state] = [name for name, value in samples.items() if name.startswith(begin) and value == 1]
        return state.split('"')[-2]

    async def _of(self, name: str) -> float:
        return (await self._sidecar.metrics())[f"{name}{{{self._labels}}}"]
