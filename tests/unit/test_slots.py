"""The slots of the sidecar: never more taken than there are, given by priority, and nobody starves."""

import asyncio
from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.clock import Clock
from walnatsd.dispatch.slots import HEAD_START_S, Priority, Slots

priorities = st.sampled_from(("high", "normal", "low"))


@dataclass(eq=False)
class Waiter:
    """Somebody in line."""

    task: asyncio.Task[None]
    priority: Priority
    since: float


class SlotsMachine(RuleBasedStateMachine):
    """Takers come, wait, are cancelled, give back; a list of who waits is kept beside."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        for waiter in self.waiting if hasattr(self, "waiting") else ():
            waiter.task.cancel()
        self._run()
        self.loop.close()

    def _run(self) -> None:
        """Let all tasks go as far as they can."""
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    @initialize(count=st.integers(1, 4))
    def open(self, count: int) -> None:
        self.clock = Clock()
        self.count = count
        self.slots = Slots(count, self.clock)
        self.taken = 0
        self.waiting: list[Waiter] = []

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def take_at_once(self) -> None:
        could = self.taken < self.count
        assert self.slots.take_at_once() == could
        self.taken += could

    @rule(priority=priorities)
    def take(self, priority: Priority) -> None:
        waiter = Waiter(self.loop.create_task(self.slots.take(priority)), priority, self.clock.now)
        self._run()
        if self.taken < self.count:
            assert waiter.task.done()
            self.taken += 1
        else:
            assert not waiter.task.done()
            self.waiting.append(waiter)

    @precondition(lambda self: self.taken)
    @rule()
    def give_back(self) -> None:
        self.slots.give_back()
        self._run()
        self._see_who_got_it()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiting), label="who")
        waiter.task.cancel()
        self.waiting.remove(waiter)
        self._run()
        assert waiter.task.cancelled()

    @precondition(lambda self: self.waiting)
    @rule()
    def cancel_the_one_who_has_just_got_it(self) -> None:
        winner = self._first_in_line()
        self.slots.give_back()  # its turn has come, but it has not run yet
        winner.task.cancel()
        self.waiting.remove(winner)
        self._run()
        assert winner.task.cancelled()
        self._see_who_got_it()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_and_give_back_before_it_has_noticed(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiting), label="who")
        waiter.task.cancel()
        self.waiting.remove(waiter)
        self.slots.give_back()
        self._run()
        assert waiter.task.cancelled()
        self._see_who_got_it()

    def _first_in_line(self) -> Waiter:
        return min(self.waiting, key=lambda waiter: waiter.since + HEAD_START_S[waiter.priority])

    def _see_who_got_it(self) -> None:
        if not self.waiting:
            self.taken -= 1
            return
        winner = self._first_in_line()
        assert [waiter for waiter in self.waiting if waiter.task.done()] == [winner]
        self.waiting.remove(winner)
        for passed_over in self.waiting:
            ahead_s = winner.since - passed_over.since
            assert ahead_s <= HEAD_START_S["low"], "somebody who has waited longer by far was passed over"
            if passed_over.priority == winner.priority:
                assert ahead_s <= 0, "among equals, who came first goes first"

    @invariant()
    def the_count_is_right(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert 0 <= self.taken <= self.count
        assert self.slots.free == self.count - self.taken
        assert self.slots.waiting == len(self.waiting)
        assert not self.waiting or self.taken == self.count, "somebody waits although a slot is free"


TestSlots = SlotsMachine.TestCase


@pytest.mark.parametrize("waiting", ["normal", "low"])
def test_a_lower_priority_is_served_in_time_however_many_high_ones_come(waiting: Priority) -> None:
    clock = Clock()
    slots = Slots(1, clock)

    async def serve_until_its_turn() -> float:
        await slots.take("high")
        patient = asyncio.create_task(slots.take(waiting))
        await asyncio.sleep(0)
        crowd: deque[asyncio.Task[None]] = deque()
        while not patient.done() and clock.now < 1100.0:
            crowd.append(asyncio.create_task(slots.take("high")))  # there is always one more
            await asyncio.sleep(0)
            clock.advance(0.1)
            slots.give_back()
            await asyncio.sleep(0)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        return clock.now - 1000.0

    waited_s = asyncio.run(serve_until_its_turn())
    assert HEAD_START_S[waiting] <= waited_s <= HEAD_START_S[waiting] + 0.3


def test_the_free_slots_are_shared_among_those_who_have_work_and_nobody_gets_less_than_one() -> None:
    slots = Slots(9, Clock())
    assert slots.share == 9
    for share in (9, 4, 3, 2):
        slots.join()
        assert slots.share == share
    for _ in range(9):
        slots.take_at_once()
    assert slots.share == 1
    for _ in range(4):
        slots.leave()
    slots.give_back()
    assert slots.share == 1
    slots.give_back()
    assert slots.share == 2
