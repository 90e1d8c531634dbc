"""Forwarding what is in the spool: in order by event, when NATS is back."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.emit.emitter import UNKNOWN
from walnatsd.emit.outgoing import Outgoing
from walnatsd.emit.request import Receipt
from walnatsd.emit.store import Store
from walnatsd.model import headers
from walnatsd.model.event import Event
from walnatsd.model.names import stream_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.metrics import Metrics
from walnatsd.spool.entry import Kept
from walnatsd.spool.errors import DamageError, WriteError
from walnatsd.spool.spool import Queue, Spool

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import Tracing

STORE_BUDGET_S = 10.0
"""How long storing is tried at a time: longer than a cluster needs to elect a leader."""
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
MOST_AT_ONCE = 256
PATIENCE_S = 60.0
"""So long a refusal may last that looks final and may not be: a client may still register an event again."""

NOT_REGISTERED = "the event and its actors are not registered in NATS yet"

_TEMPORARY = frozenset({Reason.NATS_UNAVAILABLE, Reason.EVENT_FULL, Reason.NO_ACTORS})

_log = structlog.get_logger("walnatsd.spool")


@dataclass(slots=True)
class _Run:
    """The forwarding of one event, from when something is there until nothing is."""

    event: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something has come."""
    again: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the rest after a refusal is to be cut short."""
    place: int = 0
    """The last message that is done with."""
    looks: int = 0
    """How often it was looked for what is there."""
    is_resting: bool = False
    at_once: int = 1
    most_at_once: int = MOST_AT_ONCE
    is_replicated: bool | None = None
    """Whether the stream has several copies; None where nobody has asked yet."""
    last_sequence: int | None = None
    """Of the message that was stored last, where that is known."""
    pause_s: float = FIRST_PAUSE_S
    refused_since: float | None = None
    forwarded: int = 0


class Forwarder:
    """Forwards each event on its own, so that none waits for another.

    Many messages are on their way at once and still in order: each but the first tells JetStream whose successor it is, and
    is not stored where that one was not. Who else emits this event makes that fail; then fewer are sent at once.

    The successor of a uid (`Nats-Expected-Last-Msg-Id`) can't be mistaken. But replicas check it when they apply a message, and
    nats-server 2.15.1 does not get a stream going again whose leader was killed meanwhile (tried). Replicated streams
    therefore get sequences (`Nats-Expected-Last-Sequence`), which the leader checks before. Of these, another emitter's
    message can take the place of one that failed; once that is noticed, messages go one by one.
    """

    def __init__(
        self,
        spool: Spool,
        store: Store,
        connection: Connection,
        jetstream: JetStream,
        find_event: Callable[[str], Event | None],
        find_gate: Callable[[str], asyncio.Event | None],
        metrics: Metrics,
        *,
        tracing: "Tracing | None" = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Prepare to forward.

        Args:
            spool: What is to be forwarded.
            store: Stores it; gives up as soon as NATS is away.
            connection: Knows when it is back.
            jetstream: Tells whether an event's stream is missing.
            find_event: Finds a declared event.
            find_gate: Finds what an event must wait for, None where it need not.
            metrics: Where it is counted.
            tracing: Makes spans of what is forwarded; None where nothing is traced.
            draw: Gives chance, from 0 to 1, which spreads what is tried again.
        """
        self._spool = spool
        self._store = store
        self._connection = connection
        self._jetstream = jetstream
        self._find_event = find_event
        self._find_gate = find_gate
        self._metrics = metrics
        self._tracing = tracing
        self._draw = draw
        self._runs: dict[str, _Run] = {}
        self._progress = asyncio.Event()
        self.forwarded = 0
        """Messages forwarded so far."""

    async def run(self) -> None:
        """Forward what is there and what comes, until cancelled."""
        forget = self._connection.on_change(lambda connected: None if connected else self._wait_for_nats())
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._spool.on_append(self._wake)
                for event in list(self._spool.queues):
                    self._wake(event)
                await asyncio.get_running_loop().create_future()
        finally:
            forget()
            self._spool.on_append(lambda _event: None)  # what comes now waits for the next start

    async def drained(self) -> None:
        """Wait until nothing is left but what was refused in a try that began after this call."""
        looks = {run.event: run.looks for run in self._runs.values()}
        for run in self._runs.values():
            run.again.set()
        while any(not run.is_resting or run.looks <= looks.get(run.event, 0) for run in self._runs.values()):
            await self._progress.wait()

    def _wait_for_nats(self) -> None:
        """While NATS is away, all that waits does so for NATS; what else is in the way shows when it is back."""
        for queue in self._spool.queues.values():
            queue.waits_for, queue.is_full = "", False

    def _wake(self, event: str) -> None:
        if (run := self._runs.get(event)) is not None:
            run.news.set()
        elif self._spool.holds(event):
            run = self._runs[event] = _Run(event)
            self._tasks.create_task(self._forward(run), name=f"spool/{event}")

    def _tell(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    # ---- one event

    async def _forward(self, run: _Run) -> None:
        """Forward an event until nothing of it is left."""
        while (queue := self._spool.queues.get(run.event)) is not None:
            await self._connection.wait_connected()
            if (gate := self._find_gate(run.event)) is not None:
                queue.waits_for = NOT_REGISTERED
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LONGEST_PAUSE_S):
                        await gate.wait()
                continue
            if queue.waits_for == NOT_REGISTERED:
                queue.waits_for = ""
            if run.is_replicated is None:
                run.is_replicated = await self._is_replicated(run.event)
            run.news.clear()
            run.looks += 1
            try:
                page = await self._spool.read(run.event, run.place)
            except DamageError as error:
                self._hold(run, queue, f"a repair of the spool, which is damaged: {error}")
                await self._rest(run)
                continue
            if not page:  # it is being written
                await run.news.wait()
                continue
            while page:
                batch = _next_batch(
                    page, 1 if run.is_replicated is not False and run.last_sequence is None else run.at_once
                )
                page = page[len(batch) :]
                if await self._forward_batch(run, queue, batch) < len(batch):
                    break
        del self._runs[run.event]
        self._tell()
        if run.forwarded:
            _log.info("forwarded what was in the spool", event_name=run.event, messages=run.forwarded)

    async def _forward_batch(self, run: _Run, queue: Queue, batch: Sequence[Kept]) -> int:
        """Send some, and see what became of them; gives how many are done with. The others are sent again."""
        is_chain = batch[0].entry.deliver_at is None
        links = [_link(run, batch[number - 1], number) if number and is_chain else {} for number in range(len(batch))]
        results = await asyncio.gather(*map(self._try, batch, links))
        stored = []
        refusal: Refusal | None = None
        for kept, result in zip(batch, results, strict=True):
            if isinstance(result, Refusal):
                refusal = result
                break
            stored.append(kept)
            run.last_sequence = result.sequence if result.sequence and not result.duplicate else None
            self._count(kept, result)
        if stored:
            run.place = stored[-1].id
            run.forwarded += len(stored)
            self.forwarded += len(stored)
            run.pause_s, run.refused_since = FIRST_PAUSE_S, None
            queue.waits_for, queue.is_full = "", False
            await self._spool.remove(run.event, stored)
        if refusal is None:
            run.at_once = min(run.at_once * 2, run.most_at_once)
            return len(batch)
        if refusal.reason is Reason.SEQUENCE and len(stored) > 0:
            run.last_sequence = None
            run.at_once = max(1, run.at_once // 2)
            if run.is_replicated is not False:  # another one emits this event, too
                run.at_once = run.most_at_once = 1
            return len(stored)
        return len(stored) + await self._put_off(run, queue, batch[len(stored)], refusal)

    async def _is_replicated(self, event: str) -> bool | None:
        try:
            stream = await self._jetstream.stream(stream_name(event))
        except BrokerError:
            return None
        return int(stream["config"]["num_replicas"]) > 1 if stream is not None else None

    async def _try(self, kept: Kept, link: Mapping[str, str]) -> Receipt | Refusal:
        entry = kept.entry
        trace = self._tracing.publish(entry.event, entry.header) if self._tracing is not None else None
        header = {**entry.header, **link}
        outgoing = Outgoing(entry.event, entry.payload, header, has_given_uid=True, due_at=entry.deliver_at)
        try:
            receipt = await self._store.store(outgoing, budget_s=STORE_BUDGET_S)
        except Refusal as refusal:
            if trace is not None:
                trace.end(refusal.reason, why=refusal.message)
            return refusal
        if trace is not None:
            trace.end(receipt.outcome, receipt.stream, receipt.sequence)
        return receipt

    def _count(self, kept: Kept, receipt: Receipt) -> None:
        self._metrics.spool_forwarded(self._label(kept.entry.event), receipt.outcome).inc()

    def _label(self, event: str) -> str:
        return event if self._find_event(event) is not None else UNKNOWN

    # ---- what can't be stored

    async def _put_off(self, run: _Run, queue: Queue, kept: Kept, refusal: Refusal) -> int:
        """Deal with a message that was refused; gives 1 where it is done with, because it was set aside."""
        reason, why = refusal.reason, refusal.message
        if reason is Reason.NATS_UNAVAILABLE:
            if not self._connection.is_connected:
                return 0
            if not await self._is_missing(run.event):
                await self._rest(run)
                return 0
            why = f"the stream of {run.event!r} does not exist"
            if self._find_event(run.event) is None:
                reason, why = Reason.UNKNOWN_EVENT, f"{why}, and nobody declares the event"
        if self._is_for_good(run, reason) and await self._set_aside(kept, reason, why):
            run.place, run.refused_since = kept.id, None
            return 1
        queue.is_full = reason is Reason.EVENT_FULL
        self._hold(run, queue, why)
        await self._rest(run)
        return 0

    async def _is_missing(self, event: str) -> bool:
        try:
            return await self._jetstream.stream(stream_name(event)) is None
        except BrokerError:
            return False

    def _is_for_good(self, run: _Run, reason: Reason) -> bool:
        if reason in _TEMPORARY:
            run.refused_since = None
            return False
        now = asyncio.get_running_loop().time()
        if run.refused_since is None:
            run.refused_since = now
        return reason is Reason.TOO_LARGE or now - run.refused_since >= PATIENCE_S

    def _hold(self, run: _Run, queue: Queue, why: str) -> None:
        if not queue.waits_for:
            _log.error(
                "messages in the spool can't be forwarded now; they are tried again",
                event_name=run.event, messages=queue.messages, why=why,
            )  # fmt: skip
        queue.waits_for = why

    async def _rest(self, run: _Run) -> None:
        run.is_resting = True
        self._tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(run.pause_s * (0.5 + self._draw())):
                await run.again.wait()
        run.again.clear()
        run.is_resting = False
        run.pause_s = min(run.pause_s * 2, LONGEST_PAUSE_S)

    async def _set_aside(self, kept: Kept, reason: Reason, why: str) -> bool:
        entry = kept.entry
        try:
            await self._spool.set_aside(kept, reason, why)
        except WriteError:  # it has been logged
            return False
        self._metrics.spool_forwarded(self._label(entry.event), "set-aside").inc()
        _log.error(
            "JetStream refuses a message of the spool for good; it was set aside, see: walnatsd spool list",
            event_name=entry.event, uid=entry.uid, id=kept.id, reason=reason, why=why,
        )  # fmt: skip
        return True


def _link(run: _Run, before: Kept, number: int) -> dict[str, str]:
    """Tie a message to the one before it, so that it is not stored where that one was not."""
    if run.is_replicated is False:
        return {headers.EXPECTED_LAST_MESSAGE_ID: before.entry.uid}
    assert run.last_sequence is not None
    return {headers.EXPECTED_LAST_SEQUENCE: str(run.last_sequence + number)}


def _next_batch(page: Sequence[Kept], at_once: int) -> Sequence[Kept]:
    """Cut off what is sent at once: only for now, in order, or only for later, when there is no order."""
    is_later = page[0].entry.deliver_at is not None
    for number, kept in enumerate(page[:at_once]):
        if (kept.entry.deliver_at is not None) != is_later:
            return page[:number]
    return page[:at_once]
