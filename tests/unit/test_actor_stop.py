"""The stop of an actor's loop: what is held is let go of, whatever begins in the moment when the time is over."""

import asyncio
from types import SimpleNamespace
from typing import Any

from walnatsd.dispatch.actor_loop import ActorLoop, Equipment
from walnatsd.dispatch.pulse import Pulse
from walnatsd.dispatch.screen import Screen
from walnatsd.dispatch.slots import Slots
from walnatsd.listeners.listeners import Listeners
from walnatsd.model.actor import Actor
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.codecs import Codecs

ACTOR = Actor.model_validate({"name": "print", "event": "counts"})
PATIENCE_S = 0.05


class Away:
    """A NATS that is not there yet."""

    prefix = "$JS.API"

    def spell(self, *_subjects: str) -> None:
        pass

    def on_change(self, _callback: object) -> Any:
        return lambda: None

    async def wait_connected(self) -> None:
        await asyncio.Event().wait()

    async def until_open(self, *_names: str) -> None:
        await asyncio.Event().wait()


async def _never(_reason: str) -> Any:
    raise AssertionError


async def test_a_job_that_begins_when_the_time_is_over_lets_go_of_what_it_has() -> None:
    metrics, loop, away = Metrics(), asyncio.get_running_loop(), Away()
    sidecar: Any = SimpleNamespace(
        connection=away, jetstream=away, route=away, pulse=Pulse(loop.time), slots=Slots(4, loop.time), metrics=metrics,
        tracing=None, reports=None,
    )  # fmt: skip
    actor_loop = ActorLoop(
        ACTOR,
        Equipment(Listeners(ACTOR, metrics), Screen(ACTOR, Codecs([]), source="here")),
        sidecar,
        pause=_never,
        restore=_never,
    )
    running = asyncio.create_task(actor_loop.run())
    await asyncio.sleep(0)
    begun: dict[str, asyncio.Task[None]] = {}
    let_go = set()

    async def job(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            let_go.add(name)

    def begin_another() -> None:
        """Begin one in each turn of the loop, as answers of listeners do."""
        name = str(len(begun))
        actor_loop._start(job(name), name)
        begun[name] = next(task for task in actor_loop._jobs if task.get_name().endswith(f"/{name}"))
        if not stopping.done():
            loop.call_soon(begin_another)

    actor_loop._start(job("first"), "first")
    stopping = asyncio.create_task(actor_loop.stop(PATIENCE_S, hand_back_s=5))
    loop.call_later(PATIENCE_S * 0.9, begin_another)
    await stopping
    cancelled = {name for name, task in begun.items() if task.done()}
    for task in list(actor_loop._jobs):  # those that began later; nothing of NATS ends them here
        task.cancel()
    await running

    assert cancelled
    assert cancelled | {"first"} <= let_go
