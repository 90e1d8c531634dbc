"""The breaker, beside a model that keeps every attempt."""

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.clock import Clock
from walnatsd.dispatch.breaker import PROBES_TO_CLOSE, SLICES, Breaker
from walnatsd.model.actor import Breaker as Settings

LIMIT = 6


@dataclass(eq=False)
class Running:
    """An attempt in flight."""

    generation: int
    """What the breaker gave it."""
    openings: int
    """How often the breaker had opened when it began."""


class BreakerMachine(RuleBasedStateMachine):
    """Attempts start as far as the breaker allows and end in any order."""

    @initialize(
        window=st.sampled_from((1.0, 6.0, 60.0)),
        min_attempts=st.integers(1, 6),
        failure_ratio=st.sampled_from((0.3, 0.5, 0.7, 1.0)),
        consecutive=st.integers(1, 6),
        open_for=st.sampled_from((0.5, 2.0)),
        longest=st.sampled_from((1.0, 1.5, 8.0)),
    )
    def begin(self, open_for: float, longest: float, **settings: float) -> None:
        self.settings = Settings(open_for=open_for, max_open_for=open_for * longest, **settings)
        self.clock = Clock()
        self.breaker = Breaker(self.settings, self.clock)
        self.running: list[Running] = []
        self.ended: list[tuple[float, bool]] = []  # since it was closed or opened: when, and whether it found the actor
        self.openings = 0
        self.open_until: float | None = None
        self.open_for = open_for
        self.found = 0

    # ---- what can happen

    @rule(seconds=st.one_of(st.floats(0, 0.2), st.floats(0, 3), st.floats(0, 70)))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.open_until is not None)
    @rule()
    def wait_until_it_opens(self) -> None:
        self.clock.now = max(self.clock.now, self.open_until)
        assert self.breaker.opens_again_in_s == 0
        assert self.breaker.is_half_open

    @precondition(lambda self: len(self.running) < self.breaker.allowance(LIMIT))
    @rule()
    def start(self) -> None:
        self.running.append(Running(self.breaker.start(), self.openings))
        if self.open_until is not None:
            assert self.clock.now >= self.open_until, "an attempt started while it was open"
            looking = [each for each in self.running if each.openings == self.openings]
            assert len(looking) == 1, "more than one attempt at a time looked if the actor is back"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), available=st.one_of(st.booleans(), st.none()))
    def end(self, data: st.DataObject, available: bool | None) -> None:
        attempt = data.draw(st.sampled_from(self.running), label="which")
        self.running.remove(attempt)
        self.breaker.record(attempt.generation, available=available)
        if attempt.openings == self.openings and available is not None:
            self._expect(available=available)

    @precondition(lambda self: self.breaker.is_half_open)
    @rule()
    def wait_for_answers_badly(self) -> None:
        self.breaker.record_probe(available=False)
        self._expect(available=False)

    # ---- what must follow

    def _expect(self, *, available: bool) -> None:
        if self.open_until is None:
            self.ended.append((self.clock.now, available))
            if not available and (self._missed_in_a_row() >= self.settings.consecutive or self._ratio_is_reached()):
                self._expect_open()
        elif not available:
            self.open_for = min(2 * self.open_for, self.settings.max_open_for)
            self._expect_open()
        else:
            self.found += 1
            if self.found == PROBES_TO_CLOSE:
                self.open_until = None
                self.open_for = self.settings.open_for

    def _expect_open(self) -> None:
        self.open_until = self.clock.now + self.open_for
        self.openings += 1
        self.ended = []
        self.found = 0

    def _missed_in_a_row(self) -> int:
        count = 0
        for _, available in reversed(self.ended):
            if available:
                break
            count += 1
        return count

    def _ratio_is_reached(self) -> bool:
        first = self._slice(self.clock.now) - SLICES + 1
        counting = [available for at, available in self.ended if self._slice(at) >= first]
        missed = counting.count(False)
        return len(counting) >= self.settings.min_attempts and missed / len(counting) >= self.settings.failure_ratio

    def _slice(self, at: float) -> int:
        return int(at * SLICES / self.settings.window)

    @invariant()
    def it_is_as_open_as_the_model(self) -> None:
        now, until = self.clock.now, self.open_until
        assert self.breaker.is_open == (until is not None and now < until)
        assert self.breaker.is_half_open == (until is not None and now >= until)
        assert self.breaker.opens_again_in_s == (0 if until is None else max(0, until - now))

    @invariant()
    def what_is_left_from_before_stands_in_nobodys_way(self) -> None:
        allowance = self.breaker.allowance(LIMIT)
        if self.open_until is None:
            assert allowance == LIMIT
        elif self.breaker.is_open:
            assert allowance == 0
        else:
            assert allowance == 1 + sum(each.openings < self.openings for each in self.running)


TestBreaker = BreakerMachine.TestCase


def closed(**settings: float) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(Settings(**settings), clock), clock


def attempt(breaker: Breaker, *, available: bool) -> None:
    breaker.record(breaker.start(), available=available)


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker, clock = closed(window=60, min_attempts=10, consecutive=100)
    for _ in range(9):
        attempt(breaker, available=False)
    clock.advance(60)
    attempt(breaker, available=False)
    assert not breaker.is_open


def test_what_is_a_little_younger_than_the_window_counts() -> None:
    breaker, clock = closed(window=60, min_attempts=10, consecutive=100)
    for _ in range(9):
        attempt(breaker, available=False)
    clock.advance(58.9)
    attempt(breaker, available=False)
    assert breaker.is_open


def test_a_good_answer_never_opens_it() -> None:
    breaker, _ = closed(min_attempts=4, consecutive=100)
    for available in (False, False, False, True):
        attempt(breaker, available=available)
    assert not breaker.is_open
    attempt(breaker, available=False)
    assert breaker.is_open


def test_memory_does_not_grow_with_the_throughput() -> None:
    breaker, clock = closed(window=60)
    for _ in range(50_000):
        clock.advance(0.01)
        attempt(breaker, available=True)
    assert len(breaker._slices) <= SLICES + 1


def test_attempts_that_began_before_it_opened_neither_close_it_nor_open_it_for_longer() -> None:
    breaker, clock = closed(consecutive=2, open_for=30)
    old = [breaker.start() for _ in range(8)]
    for generation in old[:2]:
        breaker.record(generation, available=False)
    assert breaker.is_open
    clock.advance(31)
    for generation in old[2:6]:
        breaker.record(generation, available=True)
    assert breaker.is_half_open, "timeouts of attempts from before the outage closed it"
    breaker.record(old[6], available=False)
    assert breaker.is_half_open
    assert breaker.allowance(16) == 2  # one is left from before, one may look


@pytest.mark.parametrize(("longest", "times"), [(300, (30, 60, 120, 240, 300, 300)), (30, (30, 30, 30))])
def test_each_failed_probe_doubles_the_time_up_to_max_open_for_and_a_recovery_starts_over(longest, times) -> None:
    breaker, clock = closed(consecutive=1, open_for=30, max_open_for=longest)
    for _ in range(2):
        for expected_s in times:
            attempt(breaker, available=False)
            assert breaker.opens_again_in_s == pytest.approx(expected_s)
            clock.advance(expected_s)
        for _ in range(PROBES_TO_CLOSE):
            assert breaker.is_half_open
            attempt(breaker, available=True)
        assert not breaker.is_open
        assert not breaker.is_half_open
