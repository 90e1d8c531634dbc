"""A world of its own for ordered intakes: virtual time, a server in memory, sidecars that die, freeze and lose the pin.

The intake, its lanes, the handling, the gate and the deliveries are the real ones.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from walnatsd.broker.delivery import Delivery
from walnatsd.broker.wire import Frame, head_of
from walnatsd.dispatch.gate import Gate
from walnatsd.dispatch.hand import Hand
from walnatsd.dispatch.handling import Handling
from walnatsd.dispatch.order import OrderedIntake
from walnatsd.dispatch.pulse import Pulse
from walnatsd.dispatch.screen import Screen
from walnatsd.dispatch.slots import Slots
from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.codecs import Codecs

ACTOR = Actor.model_validate(
    {
        "name": "ship", "event": "parcels", "url": "http://127.0.0.1:1/", "order_by": "/key", "ack_wait": 2,
        "max_jobs": 6, "retry": {"delays": [1, 3], "jitter": 0, "max_attempts": 4},
        "breaker": {"consecutive": 4, "open_for": 5, "max_open_for": 5},
    }
)  # fmt: skip


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes when it is told to."""

    now = 1000.0

    def __init__(self) -> None:
        super().__init__()
        self._clock_resolution = 0.0  # nothing is due early

    def time(self) -> float:
        return self.now


class Server:
    """A stream and its consumer. `order` is who is pinned."""

    def __init__(self, deliver: Callable[[int], None]) -> None:
        self.deliver = deliver
        self.messages: list[tuple[int | None, float]] = []
        """Key and time until which the message is delayed, by sequence from 1."""
        self.sent = 0
        self.pending: dict[int, tuple[str, int]] = {}
        """Who was given it, and how often it was handed over."""
        self.again: list[int] = []
        self.settled: set[int] = set()
        self.pin = 0
        self.pinned = ""
        self.paused = False

    async def request(self, reply: str, word: bytes) -> Frame:
        """What deliveries settle with."""
        await asyncio.sleep(0)
        sequence = int(reply.split(".")[5])
        if sequence in self.pending:
            if word.startswith(b"-NAK"):
                assert word == b"-NAK", "an ordered actor never leaves a message to the server for a while"
                if sequence not in self.again:
                    self.again.append(sequence)
                if sequence % 2:
                    self.deliver(1)  # before the answer to the nak
            else:
                self._settle(sequence)
        return Frame("", "", b"", b"")

    def _settle(self, sequence: int) -> None:
        del self.pending[sequence]
        self.settled.add(sequence)
        if sequence in self.again:
            self.again.remove(sequence)

    def next_for(self, sidecar: str) -> tuple[int, int] | None:
        """Hand over a message: what was handed over before goes first. Gives the sequence and the count."""
        if self.again:
            sequence = self.again.pop(0)
            count = self.pending[sequence][1] + 1
        elif self.sent < len(self.messages):
            self.sent = sequence = self.sent + 1
            count = 1
        else:
            return None
        self.pending[sequence] = (sidecar, count)
        return sequence, count

    def ack_wait_is_over(self, sidecar: str) -> None:
        """Of all that a sidecar holds."""
        for sequence, (holder, _) in sorted(self.pending.items()):
            if holder == sidecar and sequence not in self.again:
                self.again.append(sequence)


class Sidecar:
    """One process."""

    def __init__(self, world: "World", name: str) -> None:
        loop = world.loop
        self.world = world
        self.name = name
        self.known_pin = 0
        self.is_frozen = False
        self.is_stale = False
        """Whether it was frozen since it last heard of the server."""
        self.frozen_at = 0.0
        self.ghosts: set[int] = set()
        """Attempts that were in flight when all that this sidecar held was taken for lost."""
        self.in_flight: dict[int, asyncio.Future[Outcome]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        metrics = Metrics()
        shared: Any = SimpleNamespace(metrics=metrics, dead_letters=world, pause_after=None, tracing=None, reports=None)
        gate = Gate(ACTOR, lambda: 100, loop.time)
        slots = Slots(5, loop.time)
        handling = Handling(ACTOR, self, shared, gate, pause=self._pause, gate_changed=lambda: None, hold_retries=True)
        hand = Hand(
            ACTOR, Pulse(loop.time), slots, metrics, handling.attempts,
            receive=self._receive, always_pulsed=True,
        )  # fmt: skip
        pin: Any = self
        self.intake = OrderedIntake(
            ACTOR, hand, gate, Screen(ACTOR, Codecs([]), source="tests"), handling, slots, metrics,
            pin=pin, count_unsettled=self._count, start=self._start, wake=self._wake,
        )  # fmt: skip

    def _receive(self, delivery: Delivery) -> None:
        self.intake.receive(delivery)

    # ---- the pin

    @property
    def is_proven(self) -> bool:
        return not self.is_frozen and not self.is_stale and self.known_pin != 0

    async def give_up(self) -> None:
        if self.known_pin == self.world.server.pin:
            self.world.server.pinned = ""
        self.known_pin = 0

    # ---- the target

    def credit(self) -> int:
        return 100

    async def attempt(self, message: Message, attempt: int) -> Outcome:
        self.world.begin(self, message, attempt)
        future = self.in_flight[message.sequence] = self.world.loop.create_future()
        try:
            return await future
        finally:
            self.in_flight.pop(message.sequence, None)

    # ---- the rest

    def _wake(self) -> None:
        self.intake.look()

    async def _pause(self, _reason: str) -> bool:
        self.world.server.paused = True
        self.intake.begin_reign()
        return True

    async def _count(self, *, stored: bool) -> int | None:
        assert stored in (True, False)
        await asyncio.sleep(0)
        count = len(self.world.server.pending)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return count

    def _start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        task = self.world.loop.create_task(job, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.world.errors.append(error)

    # ---- its connection

    is_connected = True

    async def request(self, reply: str, word: bytes, *, timeout_s: float) -> Frame:
        while self.is_frozen:  # noqa: ASYNC110 - in virtual time
            await asyncio.sleep(timeout_s / 10)
        return await self.world.server.request(reply, word)

    # ---- what happens to it

    def freeze(self) -> None:
        if not self.is_frozen:
            self.is_frozen = self.is_stale = True
            self.frozen_at = self.world.loop.now

    def hear(self) -> None:
        """The server says who is pinned."""
        if self.is_frozen:
            return
        is_pinned = self.known_pin == self.world.server.pin and not self.ghosts
        self.is_stale = False
        if self.known_pin and not is_pinned:
            self.known_pin = 0
            self.intake.end_reign()
        self.intake.look()

    def fall_silent(self) -> None:
        """It was frozen for so long that others get what it holds, and the pin."""
        self.ghosts |= set(self.in_flight)
        self.world.server.ack_wait_is_over(self.name)
        if self.world.server.pinned == self.name:
            self.world.server.pinned = ""


class World:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.server = Server(self._deliver)
        self.errors: list[BaseException] = []
        self.attempted: set[int] = set()
        self.buried: set[int] = set()
        self.names = 0
        self.sidecars: list[Sidecar] = []
        self.dead: list[Sidecar] = []
        self.run(self._open())

    async def _open(self) -> None:
        self.sidecars = [self.new_sidecar(), self.new_sidecar()]

    def new_sidecar(self) -> Sidecar:
        self.names += 1
        return Sidecar(self, f"s{self.names}")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def settle_down(self) -> None:
        """Let everything run that can."""

        async def turn() -> None:
            quiet = 0
            while quiet < 3:
                await asyncio.sleep(0)
                quiet = 0 if self.loop._ready else quiet + 1

        self.run(turn())
        assert not self.errors, self.errors

    async def store(self, message: Message, _death: object) -> None:
        """A dead letter."""
        self.buried.add(message.sequence)

    # ---- what is watched

    def begin(self, sidecar: Sidecar, message: Message, _attempt: int) -> None:
        """An attempt begins: alone of its key, and not overtaken."""
        key, sequence = self.server.messages[message.sequence - 1][0], message.sequence
        assert sidecar.is_proven
        if key is not None:
            for other in self.sidecars:
                for running in other.in_flight:
                    if running not in other.ghosts:
                        assert self.server.messages[running - 1][0] != key, f"{running} and {sequence} at a time"
            for earlier in range(1, sequence):
                if self.server.messages[earlier - 1][0] == key:
                    assert earlier in self.server.settled, f"{sequence} overtakes {earlier}"
        self.attempted.add(sequence)

    # ---- what happens

    def deliver(self, count: int) -> None:
        """Hand over what there is room for."""

        async def turn() -> None:
            self._deliver(count)

        self.run(turn())

    def _deliver(self, count: int) -> None:
        server = self.server
        for sidecar in self.sidecars:
            if server.paused or sidecar.is_frozen or sidecar.name != server.pinned:
                continue
            for _ in range(min(count, sidecar.intake.capacity())):
                if (handed := server.next_for(sidecar.name)) is None:
                    return
                self._hand_over(sidecar, *handed)

    def _hand_over(self, sidecar: Sidecar, sequence: int, count: int) -> None:
        if sidecar.known_pin != self.server.pin:
            sidecar.known_pin = self.server.pin
            sidecar.intake.begin_reign()
        key, until = self.server.messages[sequence - 1]
        header = head_of({"Walnats-Delay": str(until)}) if until else b""
        payload = b"no key" if key is None else json.dumps({"key": key}).encode()
        frame = Frame("parcels", f"$JS.ACK.parcels.ship.{count}.{sequence}.1.1000000000.0", payload, header)
        connection: Any = sidecar
        sidecar.intake.receive(Delivery.of_event(connection, connection, "parcels", frame))

    def pin(self, sidecar: Sidecar) -> None:
        self.server.pin += 1
        self.server.pinned = sidecar.name

    def answer(self, sidecar: Sidecar, sequence: int, verdict: Verdict) -> None:
        if not (future := sidecar.in_flight[sequence]).done():
            future.set_result(Outcome(verdict, "said so"))
        sidecar.ghosts.discard(sequence)

    def advance(self, seconds: float) -> None:
        """Let time pass, and happen what it brings."""
        self.loop.now += seconds
        for sidecar in [*self.sidecars, *self.dead]:
            if sidecar.is_frozen and self.loop.now - sidecar.frozen_at > ACTOR.ack_wait:
                sidecar.fall_silent()
        if not self.server.pinned:
            awake = [sidecar for sidecar in self.sidecars if not sidecar.is_frozen]
            if awake:
                self.pin(awake[-1])
        self.settle_down()

    def replace(self, sidecar: Sidecar) -> None:
        """It is killed, and another one comes."""
        sidecar.freeze()
        self.dead.append(sidecar)
        place = self.sidecars.index(sidecar)

        async def come() -> None:
            self.sidecars[place] = self.new_sidecar()

        self.run(come())

    def close(self) -> None:
        for _ in range(3):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.now += 10
            with contextlib.suppress(AssertionError):  # what is cancelled is no error here
                self.settle_down()
        self.loop.close()
        asyncio.set_event_loop(None)
