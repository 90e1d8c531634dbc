"""Order by key: one message of a key at a time, in the order of the stream; different keys in parallel.

A sidecar serves an ordered actor while it is pinned: its *reign*. The order rests on one invariant: during a reign all
that is unsettled is in this sidecar's hands. So a reign begins by waiting until that is true (`dispatch/reign.py`), and
a message to be tried again is handed back only to come again at once, so that the server counts the attempt, and waits
here.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from walnatsd.broker.delivery import Delivery, Key
from walnatsd.broker.pin import Pin
from walnatsd.dispatch.gate import Gate
from walnatsd.dispatch.hand import Hand
from walnatsd.dispatch.handling import Handling
from walnatsd.dispatch.intake import StartJob
from walnatsd.dispatch.lanes import Lanes, Place, Stage
from walnatsd.dispatch.reign import CountUnsettled, Reign
from walnatsd.dispatch.screen import Screen
from walnatsd.dispatch.slots import Slots
from walnatsd.model.actor import Actor
from walnatsd.model.delay import delay_left_s
from walnatsd.model.message import Message
from walnatsd.model.retry import AT_ONCE, Decision, Pause, Retry
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.keys import order_key

HAND_BACK_TIMEOUT_S = 5.0
LONGEST_WAY_S = 5.0
"""How long a message that was handed back may take to come again; it is asked for, so it takes a moment."""

_log = structlog.get_logger("walnatsd.order")


@dataclass(slots=True, eq=False, kw_only=True)
class Held(Place):
    """A delivery in its lane."""

    delivery: Delivery
    seen: Message | Decision
    """The message as the actor shall see it, or what was decided without asking the actor."""
    reign: int = 0
    """Which one it came in."""


class OrderedIntake:
    """Starts the first message of each lane, as many at once as the gate and the sidecar's slots allow."""

    def __init__(
        self,
        actor: Actor,
        hand: Hand,
        gate: Gate,
        screen: Screen,
        handling: Handling,
        slots: Slots,
        metrics: Metrics,
        *,
        pin: Pin,
        count_unsettled: CountUnsettled,
        start: StartJob,
        wake: Callable[[], None],
    ) -> None:
        """Prepare, without a reign.

        Args:
            actor: The declaration; it has `order_by`.
            hand: Holds the deliveries.
            gate: What the actor can bear.
            screen: Decides what needs no attempt.
            handling: Handles single deliveries; it holds retries.
            slots: Of the sidecar.
            metrics: Of the daemon.
            pin: Tells whether this sidecar may start attempts.
            count_unsettled: Asks the server how many messages are handed over and not settled; see there.
            start: Runs a job within the life of the actor.
            wake: Has the pull and this intake look again.
        """
        assert actor.order_by is not None
        self._actor = actor
        self._order_by = actor.order_by
        self._hand = hand
        self._gate = gate
        self._screen = screen
        self._handling = handling
        self._slots = slots
        self._pin = pin
        self._start = start
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._lanes: Lanes[Held] = Lanes()
        self._held: dict[Key, Held] = {}
        self._reign = Reign(actor, metrics, count_unsettled=count_unsettled, ours=self._at_rest, start=start, wake=wake)
        self._jobs = 0
        """Attempts, settlements and hand-backs under way."""
        self._attempts = 0
        self._unstarted = 0
        self._waits_for_slot = False
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    # ---- what comes in

    @property
    def has_all(self) -> bool:
        """Whether all that is unsettled is in our hands, so that attempts may start."""
        return self._reign.has_all

    @property
    def waiting(self) -> int:
        """How many messages are in our hands and not under way."""
        return len(self._held) - self._attempts

    def capacity(self) -> int:
        """How many more messages there is room for: what is away, and enough to have a lane ready for each free slot.

        Messages that wait behind others of their key take no room: NATS bounds all that is unsettled, by
        `max_ack_pending`.
        """
        if self._stopping:
            return 0
        if self._reign.is_on and not self._reign.has_all and self._held:
            return self._reign.elsewhere
        allowance = self._gate.allowance()
        if not allowance:
            return self._lanes.away
        spare = min(2 * allowance - self._attempts, self._slots.free + 1)
        spare = self._gate.starts_left(spare + self._unstarted) - self._unstarted
        return self._lanes.away + max(0, spare - self._lanes.ready(self._loop.time()))

    def receive(self, delivery: Delivery) -> None:
        """Put it into its lane."""
        self._reign.note_move(is_awaited=delivery.deliveries > 1 or not self._held)
        held = self._held.get(delivery.key)
        if not self._hand.take(delivery):
            return
        if held is not None:  # it was away
            held.delivery = delivery
            self._lanes.wait(held, held.not_before)
        else:
            held = self._place(delivery)
            self._lanes.add(held)
            self._held[delivery.key] = held
        if not self._reign.is_on:  # on its way when the pin was lost
            self._give_back_all()
        else:
            self.look()

    def _place(self, delivery: Delivery) -> Held:
        message, now = delivery.message, time.time()
        # The delay holds only what is behind it in its lane; so its key must be known before the delay is over.
        seen = self._screen.look(message, now=math.inf)
        key, left_s = None, 0.0
        if isinstance(seen, Message):
            key, left_s = order_key(self._order_by, seen), delay_left_s(message.headers, now)
        return Held(
            lane=delivery.key if key is None else key,
            sequence=message.sequence,
            not_before=self._loop.time() + left_s if left_s else 0.0,
            delivery=delivery,
            seen=seen,
            reign=self._reign.number,
        )

    # ---- what goes out

    def look(self) -> None:
        """Start what may start now."""
        while self._lanes.ready(self._loop.time()) and self._may_start():
            if not self._slots.take_at_once():
                self._wait_for_slot()
                break
            if not self._start_next():
                self._slots.give_back()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._stopping and (next_at := self._lanes.next_at()) is not None:
            self._timer = self._loop.call_at(next_at, self._wake)

    def _may_start(self) -> bool:
        return (
            self._reign.has_all
            and not self._stopping
            and self._attempts < self._gate.allowance()
            and self._gate.starts_left(1 + self._unstarted) > self._unstarted
            and self._pin.is_proven
        )

    def _start_next(self) -> bool:
        """Start the next message with a slot that is taken; False where there is none after all."""
        held = self._lanes.take(self._loop.time())
        if held is None:
            return False
        self._jobs += 1
        self._attempts += 1
        self._unstarted += 1
        self._start(self._carry(held), str(held.sequence))
        return True

    def _wait_for_slot(self) -> None:
        if not self._waits_for_slot:
            self._waits_for_slot = True
            self._start(self._start_in_turn(), "slot")

    async def _start_in_turn(self) -> None:
        try:
            await self._slots.take(self._actor.priority)
        finally:
            self._waits_for_slot = False
        if not (self._may_start() and self._start_next()):
            self._slots.give_back()
        self.look()

    async def _carry(self, held: Held) -> None:
        """Carry the first message of a lane to the end of one attempt. It has a slot."""
        self._unstarted -= 1
        try:
            if isinstance(held.seen, Message):
                decision = await self._handling.handle(held.delivery, held.seen)
            else:
                decision = await self._handling.settle(held.delivery, held.seen)
        except BaseException:
            self._let_go(held)
            raise
        finally:
            self._slots.give_back()
            self._jobs -= 1
            self._attempts -= 1
            self._reign.note_move()
        self._conclude(held, decision)
        self._wake()

    def _conclude(self, held: Held, decision: Decision) -> None:
        """Follow a settlement: the lane goes on, or waits for the message to come again."""
        if not isinstance(decision, Retry | Pause) or self._stopping:
            self._let_go(held)
            return
        not_before = self._loop.time() + (decision.after_s if isinstance(decision, Retry) else 0.0)
        if held.reign == self._reign.number:
            delivery = held.delivery
            self._lanes.send_away(held, not_before)
            self._loop.call_later(LONGEST_WAY_S, self._look_after, held, delivery)
            self._hand.let_go(delivery)  # it may have come again already, and is received now
        else:
            self._let_go(held)  # it goes to whoever is pinned now

    def _look_after(self, held: Held, delivery: Delivery) -> None:
        """Begin anew where a message does not come again: it was deleted, or the consumer is paused."""
        if (
            held.stage is Stage.AWAY
            and held.delivery is delivery
            and held.reign == self._reign.number
            and not self._stopping
        ):
            _log.warning(
                "a message that was handed back does not come again; handing back all others too",
                event_name=self._actor.event, actor=self._actor.name, sequence=held.sequence,
            )  # fmt: skip
            self.begin_reign()

    def _let_go(self, held: Held) -> None:
        self._lanes.remove(held)
        del self._held[held.delivery.key]
        self._hand.let_go(held.delivery)  # it may have come again already, and is received now

    # ---- reigns

    def begin_reign(self) -> None:
        """Serve the actor from now on, beginning with nothing: the pin is new, or the actor was paused."""
        self.end_reign()
        if self._stopping:
            return
        self._reign.begin()

    def end_reign(self) -> None:
        """Start nothing more, and hand back what waits: the pin is lost."""
        self._reign.end()
        self._give_back_all()

    def _give_back_all(self) -> None:
        for held in self._clear():
            self._start(self._give_back(held), str(held.sequence))

    def _clear(self) -> list[Held]:
        waiting = self._lanes.clear()
        self._held = {held.delivery.key: held for held in self._lanes}
        self._jobs += len(waiting)
        return waiting

    async def _give_back(self, held: Held) -> None:
        try:
            decision = await self._handling.settle(held.delivery, AT_ONCE)
        except BaseException:
            self._let_go(held)
            raise
        finally:
            self._jobs -= 1
            self._reign.note_move()
        held.reign = -1  # not awaited
        self._conclude(held, decision)
        self._wake()

    def _at_rest(self) -> int | None:
        """How many messages of the consumer wait here; None where nothing does, or something is under way."""
        if not self._held or self._jobs:
            return None
        return sum(not held.delivery.is_on_route for held in self._held.values())

    async def hand_back(self) -> None:
        """Hand back what waits, and let another sidecar take over at once; attempts in flight go on."""
        self._stopping = True
        self._reign.end()
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(TimeoutError):  # NATS is away: it hands all over again after ack_wait
            async with asyncio.timeout(HAND_BACK_TIMEOUT_S):
                await self._pin.give_up()
                await asyncio.gather(*map(self._give_back, self._clear()))
