"""Concurrent emits on their way out: gathered into batches, without making a lone one wait."""

import asyncio
from collections import deque

import grpc

from walnatsd_client._emit_calls import EmitCalls, Response
from walnatsd_client._errors import SIDECAR_UNAVAILABLE, UnavailableError, WalnatsdError, error_of
from walnatsd_client._wire import ITEM_OVERHEAD_BYTES

MAX_ITEMS = 1000
MAX_BYTES = 16 << 20
"""What the sidecar takes as a batch (contract, section 3)."""
ALONE_BYTES = 256 << 10
"""A message of this size goes alone: a call of its own costs it next to nothing, and it holds nobody up."""
MANY_ITEMS = 25
"""More than these are shared out to the calls that may be under way."""
MAX_CALLS = 2
"""With so many calls under way, the next emits gather until one of them is answered: one is with the sidecar, one on its
way. More or fewer measured the same or worse."""
LONGEST_WAIT_S = 0.005
"""But they gather no longer than this: an answer that takes its time waits for NATS, and must not hold others up."""
MAX_UNDER_WAY = 5 * MAX_ITEMS
"""So many emits of a lane at most: half of what a sidecar takes at once unless told otherwise."""
SPREAD = 0.05
"""Emits that travel together end together, when the first of them does: none loses more than this part of its timeout."""
MANY_LANES = 100
"""Idle lanes are forgotten beyond this number; a caller may use another timeout for every emit."""


class Gathering:
    """The emits of one connection, in lanes.

    A lane is for one event and timeout: an event that waits for its stream must not hold up others, and the sidecar is
    told how long its callers wait.
    """

    def __init__(self, channel: grpc.aio.Channel, calling: grpc.aio.Channel) -> None:
        """Prepare.

        Args:
            channel: Where the sidecar is.
            calling: The same, with the token.
        """
        self._calls = EmitCalls(channel, calling)
        self._lanes: dict[tuple[str, float], _Lane] = {}

    async def emit(self, event: str, uid: str, wire: bytes, timeout_s: float) -> Response:
        """Emit one message, in one call with what else is emitted at this moment.

        A cancelled emit is not sent if it isn't under way yet; others are not affected.

        Args:
            event: Name of the event.
            uid: The message's.
            wire: The message, a written `EmitRequest`.
            timeout_s: How long to try.

        Raises:
            WalnatsdError: The sidecar refused, or there was no answer in time.
        """
        if len(wire) >= ALONE_BYTES:
            return await self._calls.emit(uid, wire, timeout_s=timeout_s)
        lane = self._lanes.get((event, timeout_s)) or self._open(event, timeout_s)
        if lane.is_idle and not lane.is_crowded:
            return await lane.send(uid, wire)
        waiting = lane.gather(uid, wire)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            waiting.leave()
            raise

    def _open(self, event: str, timeout_s: float) -> "_Lane":
        if len(self._lanes) >= MANY_LANES:
            self._lanes = {key: lane for key, lane in self._lanes.items() if not lane.is_idle}
        lane = self._lanes[event, timeout_s] = _Lane(self._calls, event, timeout_s)
        return lane

    async def close(self) -> None:
        """End what is gathered and what is under way; who waits for it gets an `UnavailableError`."""
        for lane in list(self._lanes.values()):  # who emits meanwhile may open more
            await lane.close()
        await self._calls.close()


class _Waiting:
    """An emit whose caller waits for its answer."""

    __slots__ = ("answer", "carried", "deadline", "uid", "wire")

    def __init__(self, uid: str, wire: bytes, answer: "asyncio.Future[Response]", deadline: float) -> None:
        self.uid = uid
        self.wire = wire
        self.answer = answer
        self.deadline = deadline
        self.carried: _Carried | None = None
        """What it is under way with; None where it is not under way yet."""

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error.of(self.uid) if isinstance(error, WalnatsdError) else error)

    def leave(self) -> None:
        """Wait no more."""
        if self.carried is not None:
            self.carried.leave()


class _Carried:
    """Emits under way in one call."""

    __slots__ = ("carrier", "left")

    def __init__(self, carrier: "asyncio.Task[None]", left: int) -> None:
        self.carrier = carrier
        self.left = left
        """How many have not been cancelled."""

    def leave(self) -> None:
        """Go on without one of them; the call is cancelled with the last."""
        self.left -= 1
        if not self.left:
            self.carrier.cancel()


class _Lane:
    """Emits that may travel together."""

    def __init__(self, calls: EmitCalls, event: str, timeout_s: float) -> None:
        self.is_crowded = False
        """The last to depart were several."""
        self._sidecar = calls
        self._event = event
        self._timeout_s = timeout_s
        self._spread_s = timeout_s * SPREAD
        self._loop = asyncio.get_running_loop()
        self._gathered: deque[_Waiting] = deque()
        self._departure: asyncio.Handle | None = None
        self._calls = 0
        self._emits = 0
        self._carriers: dict[asyncio.Task[None], list[_Waiting]] = {}

    @property
    def is_idle(self) -> bool:
        return not self._gathered and not self._calls

    async def send(self, uid: str, wire: bytes) -> Response:
        """Send a lone one at once, as if there were no gathering."""
        self._calls += 1
        self._emits += 1
        try:
            return await self._sidecar.emit_alone(uid, wire, timeout_s=self._timeout_s)
        finally:
            self._arrive(1)

    def gather(self, uid: str, wire: bytes) -> _Waiting:
        """Let one wait for others, and for its turn."""
        waiting = _Waiting(uid, wire, self._loop.create_future(), self._loop.time() + self._timeout_s)
        self._gathered.append(waiting)
        if self._departure is None:
            # At the end of this turn of the loop: whoever is to emit in the same turn travels along.
            self._departure = (
                self._loop.call_soon(self._depart, MAX_CALLS)
                if self._calls < MAX_CALLS
                else self._loop.call_later(LONGEST_WAIT_S, self._depart_overdue)
            )
        return waiting

    def _depart_overdue(self) -> None:
        """Send one more batch than there should be under way: what is under way takes long."""
        while self._gathered and self._gathered[0].deadline <= self._loop.time():
            self._gathered.popleft().fail(
                UnavailableError(f"no answer from the sidecar within {self._timeout_s:g} s", SIDECAR_UNAVAILABLE)
            )
        self._depart(self._calls + 1)

    def _depart(self, most_calls: int) -> None:
        """Send what is gathered, as far as there are not more calls under way then."""
        self._departure = None
        while self._calls < most_calls and self._emits < MAX_UNDER_WAY and (batch := self._take()):
            self.is_crowded = len(batch) > 1
            self._calls += 1
            self._emits += len(batch)
            carrier = self._loop.create_task(self._carry(batch), name=f"emit/{self._event}")
            self._carriers[carrier] = batch
            carried = _Carried(carrier, len(batch))
            for waiting in batch:
                waiting.carried = carried
            carrier.add_done_callback(self._finish)
        if self._gathered:
            # So ten thousand emits at once are a stream of batches, and not too much for the sidecar.
            self._departure = self._loop.call_later(LONGEST_WAIT_S, self._depart_overdue)

    def _take(self) -> list[_Waiting]:
        """Take the next batch; empty where nothing is left.

        Where there are many, it is an equal share of what is gathered and under way. Who has an answer emits again together
        with all others of that answer: a call for one and a call for all others would stay like that, and cost the same.
        """
        batch: list[_Waiting] = []
        size = 0
        gathered = self._gathered
        most = min(MAX_ITEMS, max(MANY_ITEMS, -(-(len(gathered) + self._emits) // MAX_CALLS)))
        while gathered and len(batch) < most:
            first = gathered[0]
            size += len(first.wire) + ITEM_OVERHEAD_BYTES
            if batch and (size > MAX_BYTES or first.deadline > batch[0].deadline + self._spread_s):
                break
            gathered.popleft()
            if not first.answer.done():  # else it was cancelled
                batch.append(first)
        return batch

    def _finish(self, carrier: asyncio.Task[None]) -> None:
        batch = self._carriers.pop(carrier)
        if carrier.cancelled():  # else all have their answers
            for waiting in batch:
                waiting.fail(_closed(maybe_stored=True))
        self._arrive(len(batch))

    def _arrive(self, emits: int) -> None:
        self._calls -= 1
        self._emits -= emits
        if self._gathered:
            if self._departure is not None:
                self._departure.cancel()
            # not now: who has an answer may emit again
            self._departure = self._loop.call_soon(self._depart, MAX_CALLS)

    async def _carry(self, batch: list[_Waiting]) -> None:
        """Send a batch and hand its answers out."""
        timeout_s = batch[0].deadline - self._loop.time()
        try:
            if len(batch) == 1:
                answer = await self._sidecar.emit(
                    batch[0].uid, batch[0].wire, timeout_s=timeout_s, asked_s=self._timeout_s
                )
                if not batch[0].answer.done():
                    batch[0].answer.set_result(answer)
            else:
                await self._send_together(batch, timeout_s)
        except Exception as error:  # noqa: BLE001 - it is raised in each of those who wait
            for waiting in batch:
                waiting.fail(error)

    async def _send_together(self, batch: list[_Waiting], timeout_s: float) -> None:
        answer, tried_before = await self._sidecar.emit_batch(
            [waiting.wire for waiting in batch], timeout_s=timeout_s, asked_s=self._timeout_s
        )
        if len(answer.items) != len(batch):
            raise WalnatsdError(
                f"the sidecar gave {len(answer.items)} results for {len(batch)} emits", "INTERNAL", maybe_stored=True
            )
        for waiting, result in zip(batch, answer.items, strict=True):
            if waiting.answer.done():
                continue
            if result.HasField("ok"):
                waiting.answer.set_result(result.ok)
            else:
                error = error_of(result.error)
                error.maybe_stored |= tried_before  # what an earlier try may have stored, this one doesn't take back
                waiting.fail(error)

    async def close(self) -> None:
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None
        while self._gathered:
            self._gathered.popleft().fail(_closed(maybe_stored=False))
        carriers = list(self._carriers)
        for carrier in carriers:
            carrier.cancel()
        if carriers:
            await asyncio.wait(carriers)


def _closed(*, maybe_stored: bool) -> UnavailableError:
    return UnavailableError("the connection was closed here", SIDECAR_UNAVAILABLE, maybe_stored=maybe_stored)
