"""The window of an actor: additive increase, multiplicative decrease."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from walnatsd.dispatch.window import FIRST_SIZE, Window


class WindowMachine(RuleBasedStateMachine):
    """Attempts start while the window has room and end in any order; the window is compared with its promises."""

    @initialize(limit=st.integers(1, 12))
    def open(self, limit: int) -> None:
        self.limit = limit
        self.window = Window(limit)
        self.step = 0
        self.in_flight: list[tuple[int, int]] = []  # the step it began in, what the window gave it
        self.halved_in_step = -1
        self.clean = 0  # answers since the last change, to attempts that began after the last halving
        assert self.window.size == min(FIRST_SIZE, limit)

    @precondition(lambda self: len(self.in_flight) < self.window.size)
    @rule()
    def start(self) -> None:
        self.step += 1
        self.in_flight.append((self.step, self.window.generation))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def answer_well(self, data: st.DataObject) -> None:
        before = self.window.size
        began, generation = self._take_one(data)
        self.window.grow(generation)
        self.clean += began > self.halved_in_step
        if self.clean >= before and before < self.limit and began > self.halved_in_step:
            assert self.window.size == before + 1
            self.clean = 0
        else:
            assert self.window.size == before

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def overload(self, data: st.DataObject) -> None:
        before = self.window.size
        began, generation = self._take_one(data)
        self.window.shrink(generation)
        if began > self.halved_in_step:
            assert self.window.size == max(1, before // 2)
            self.halved_in_step = self.step
            self.clean = 0
        else:
            assert self.window.size == before, "an attempt that began before the last halving halved it again"

    def _take_one(self, data: st.DataObject) -> tuple[int, int]:
        self.step += 1
        return self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1), label="which"))

    @invariant()
    def the_size_is_in_its_bounds(self) -> None:
        assert 1 <= self.window.size <= self.limit


TestWindow = WindowMachine.TestCase


def test_a_whole_window_that_is_overloaded_at_once_halves_it_once() -> None:
    window = Window(16)
    for _ in range(500):
        window.grow(window.generation)
    assert window.size == 16
    generation = window.generation
    for _ in range(16):
        window.shrink(generation)
    assert window.size == 8


def test_answers_to_what_began_before_the_overload_do_not_widen_the_window_again() -> None:
    window = Window(16)
    before = window.generation
    window.shrink(before)
    for _ in range(100):
        window.grow(before)
    assert window.size == 2
