"""Batch actors in memory: messages that are there at the same time make a batch."""

import asyncio
from dataclasses import fields, replace
from typing import Any

from walnatsd_client._actor import Actor, BatchActor
from walnatsd_client._delivery import Delivery, Reject, Retry, current_delivery
from walnatsd_client._handling import Done, handle_messages

MAX_SIZE = 100

Outcome = Done | Reject | Retry


def one_by_one(actor: BatchActor[Any]) -> Actor[Any]:
    """Give an actor that takes one message at a time and hands them to the batch actor's handler together."""
    max_size = actor.batch.max_size or MAX_SIZE
    options = {each.name: getattr(actor, each.name) for each in fields(Actor) if each.init}
    return Actor(
        **(options | {"handler": _Gathering(actor, max_size).take, "max_jobs": max_size, "execute_in": "main"})
    )


class _Gathering:
    """The messages of a batch actor that wait to be handled."""

    def __init__(self, actor: BatchActor[Any], max_size: int) -> None:
        self._actor = actor
        self._max_size = max_size
        self._waiting: list[tuple[object, Delivery, asyncio.Future[Outcome]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def take(self, message: object) -> None:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((message, current_delivery(), outcome))
        if len(self._waiting) == 1:
            loop.call_soon(self._start)  # those that were delivered together have come by then
        result = await outcome
        if isinstance(result, (Reject, Retry)):
            raise result

    def _start(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
            task = asyncio.create_task(self._handle(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _handle(self, batch: list[tuple[object, Delivery, asyncio.Future[Outcome]]]) -> None:
        deliveries = [delivery for _, delivery, _ in batch]
        facts = replace(
            deliveries[-1],
            uid="",
            trace_id="",
            sequence=max(delivery.sequence for delivery in deliveries),
            attempt=max(delivery.attempt for delivery in deliveries),
        )
        result = await handle_messages(self._actor, facts, [message for message, _, _ in batch])
        if isinstance(result, Reject) and len(batch) > 1:
            for each in batch:  # a rejected batch comes again message by message
                await self._handle([each])
            return
        results = [result] * len(batch) if isinstance(result, (Reject, Retry)) else result
        for (_, _, outcome), each_result in zip(batch, results, strict=True):
            if not outcome.done():
                outcome.set_result(each_result)
