"""The gate puts the reasons to wait together: none of them is forgotten, and it says when it opens."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.clock import Clock
from walnatsd.dispatch.gate import Gate
from walnatsd.model.actor import Actor
from walnatsd.model.gate_state import GateState
from walnatsd.model.outcome import Outcome, Verdict

FULL = 1_000_000

OUTCOMES = {
    "204": Outcome(Verdict.ACKNOWLEDGED, "done"),
    "500": Outcome(Verdict.FAILED, "failed"),
    "500 Retry-After": Outcome(Verdict.FAILED, "failed", retry_after_s=9.0),
    "400": Outcome(Verdict.REJECTED, "no"),
    "410": Outcome(Verdict.GONE, "gone"),
    "429": Outcome(Verdict.FAILED, "busy", overloaded=True),
    "429 Retry-After": Outcome(Verdict.FAILED, "busy", retry_after_s=3.0, holds_actor=True, overloaded=True),
    "503 Retry-After": Outcome(Verdict.UNAVAILABLE, "busy", retry_after_s=1.0, holds_actor=True, overloaded=True),
    "refused": Outcome(Verdict.UNAVAILABLE, "refused"),
    "timeout": Outcome(Verdict.FAILED, "late", overloaded=True),
    "listener left": Outcome(Verdict.HANDED_BACK, "left"),
}
SHUT = {
    GateState.PAUSED, GateState.BREAKER_OPEN, GateState.WAITING_FOR_PROBE, GateState.WAITING_FOR_LISTENER, GateState.HELD,
}  # fmt: skip


def actor(**options: object) -> Actor:
    return Actor.model_validate({"name": "print", "event": "counts", "url": "http://127.0.0.1:1/"} | options)


class GateMachine(RuleBasedStateMachine):
    """Attempts start as far as the gate allows and end in any way and order."""

    @initialize(
        max_jobs=st.integers(1, 8),
        rate_limit=st.one_of(st.none(), st.just({"jobs": 3, "period": 2.0})),
        wait_for=st.booleans(),
        consecutive=st.integers(1, 4),
    )
    def begin(self, max_jobs: int, rate_limit: object, wait_for: bool, consecutive: int) -> None:
        self.clock = Clock()
        self.credit = FULL
        options = {"wait_for": "http://127.0.0.1:1/health"} if wait_for else {}
        breaker = {"consecutive": consecutive, "open_for": 2, "max_open_for": 5}
        declared = actor(max_jobs=max_jobs, rate_limit=rate_limit, breaker=breaker, **options)
        self.gate = Gate(declared, lambda: self.credit, self.clock)
        self.max_jobs = max_jobs
        self.has_probe = wait_for
        self.probed = not wait_for
        self.paused = False
        self.rest_until = 0.0
        self.running: list[tuple[int, int]] = []
        self.starts: list[float] = []

    # ---- what can happen

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def _may_start(self) -> bool:
        return len(self.running) < self.gate.allowance() and self.gate.starts_left(1) > 0

    @precondition(lambda self: self._may_start())
    @rule()
    def start(self) -> None:
        assert not self.paused
        assert self.probed, "a message was used as a probe though wait_for has not answered well"
        assert self.clock.now >= self.rest_until, "an attempt started though the actor asked for a rest"
        assert self.gate.breaker != "open"
        self.starts.append(self.clock.now)
        self.running.append(self.gate.start())

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(sorted(OUTCOMES)))
    def end(self, data: st.DataObject, outcome: str) -> None:
        before = self.gate.window
        was_open = self.gate.breaker == "open"
        era = self.running.pop(data.draw(st.integers(0, len(self.running) - 1), label="which"))
        self.gate.record(OUTCOMES[outcome], era)
        if outcome in {"429 Retry-After", "503 Retry-After"}:
            self.rest_until = max(self.rest_until, self.clock.now + OUTCOMES[outcome].retry_after_s)
        if self.gate.breaker == "open" and not was_open:
            self.probed = not self.has_probe
            assert OUTCOMES[outcome].verdict is Verdict.UNAVAILABLE, "the breaker opened without cause"
        if OUTCOMES[outcome].overloaded:
            assert self.gate.window in {before, max(1, before // 2)}
        elif outcome in {"refused", "listener left"}:
            assert self.gate.window == before
        else:
            assert self.gate.window in {before, before + 1}

    @precondition(lambda self: self.gate.wants_probe)
    @rule(available=st.booleans())
    def wait_for_answers(self, available: bool) -> None:
        assert self.has_probe
        assert not self.paused
        self.gate.record_probe(available=available)
        self.probed = available

    @rule()
    def pause(self) -> None:
        self.gate.pause()
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.gate.resume()
        self.paused = False

    @rule(credit=st.sampled_from((0, 1, FULL)))
    def listeners_come_and_go(self, credit: int) -> None:
        self.credit = credit

    @precondition(lambda self: self.gate.opens_in_s)
    @rule()
    def wait_until_it_opens(self) -> None:
        for _ in range(3):
            self.clock.advance(self.gate.opens_in_s or 0.0)
        assert self.gate.opens_in_s == (0 if self.probed else None)

    # ---- what must be true at all times

    @invariant()
    def its_word_and_its_numbers_agree(self) -> None:
        if not hasattr(self, "gate"):
            return
        state, allowance = self.gate.state, self.gate.allowance()
        assert (allowance == 0) == (state in SHUT)
        assert (state is GateState.RATE_LIMITED) == (allowance > 0 and self.gate.starts_left(1) < 1)
        opens_in_s = self.gate.opens_in_s
        if state in {GateState.PAUSED, GateState.WAITING_FOR_PROBE}:
            assert opens_in_s is None
        elif state in {GateState.OPEN, GateState.HALF_OPEN}:
            assert opens_in_s == 0
        elif state is not GateState.WAITING_FOR_LISTENER:
            assert opens_in_s > 0
        assert (self.gate.held_s > 0) == (self.clock.now < self.rest_until)

    @invariant()
    def the_window_stays_in_its_bounds(self) -> None:
        if hasattr(self, "gate"):
            assert 1 <= self.gate.window <= self.max_jobs


TestGate = GateMachine.TestCase


def test_with_wait_for_nothing_starts_until_it_has_answered_well() -> None:
    gate = Gate(actor(wait_for="http://127.0.0.1:1/health"), lambda: FULL, Clock())
    assert gate.state is GateState.WAITING_FOR_PROBE
    gate.record_probe(available=False)
    assert gate.allowance() == 0
    gate.record_probe(available=True)
    assert gate.state is GateState.OPEN


def test_each_bad_answer_of_wait_for_makes_the_breaker_wait_longer() -> None:
    clock = Clock()
    breaker = {"consecutive": 1, "open_for": 30, "max_open_for": 100}
    gate = Gate(actor(wait_for="http://127.0.0.1:1/health", breaker=breaker), lambda: FULL, clock)
    gate.record_probe(available=True)
    gate.record(OUTCOMES["refused"], gate.start())
    for expected_s in (30, 60, 100, 100):
        assert gate.opens_in_s == expected_s
        assert not gate.wants_probe
        clock.advance(expected_s)
        assert gate.wants_probe
        gate.record_probe(available=False)
    clock.advance(100)
    gate.record_probe(available=True)
    assert gate.state is GateState.HALF_OPEN


def test_a_shorter_retry_after_does_not_take_back_a_longer_one() -> None:
    gate = Gate(actor(), lambda: FULL, Clock())
    for outcome in ("429 Retry-After", "503 Retry-After"):
        gate.record(OUTCOMES[outcome], gate.start())
    assert gate.held_s == 3.0
