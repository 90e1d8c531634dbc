"""The rate limit of an actor, beside a count by hand."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.clock import Clock
from walnatsd.dispatch.rate_limit import RateLimit
from walnatsd.model.actor import RateLimit as Settings

ROUNDING_S = 1e-6

milliseconds = st.integers(0, 5000).map(lambda number: number / 1000)  # uvloop's clock
anything = st.floats(0, 5, allow_nan=False)


class RateLimitMachine(RuleBasedStateMachine):
    """Time passes and attempts start as far as they may."""

    @initialize(jobs=st.integers(1, 5), period=st.one_of(milliseconds, anything).filter(bool), now=st.floats(0, 1e6))
    def begin(self, jobs: int, period: float, now: float) -> None:
        self.clock = Clock(now)
        self.settings = Settings(jobs=jobs, period=period)
        self.limit = RateLimit(self.settings, self.clock)
        self.starts: list[float] = []

    @rule(seconds=st.one_of(milliseconds, anything))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.limit.left(1))
    @rule()
    def start(self) -> None:
        self.limit.start()
        self.starts.append(self.clock.now)

    @rule()
    def wait_until_it_opens(self) -> None:
        for _ in range(3):  # rounding may make it a hair too soon; it says so
            self.clock.advance(self.limit.opens_in_s)
        assert self.limit.left(1) == 1

    @invariant()
    def no_period_has_more_starts_than_allowed(self) -> None:
        jobs, period = self.settings.jobs, self.settings.period
        for earlier, later in zip(self.starts, self.starts[jobs:], strict=False):
            assert later - earlier > period - ROUNDING_S

    @invariant()
    def what_is_left_is_what_a_count_by_hand_gives(self) -> None:
        counting = [start for start in self.starts if start + self.settings.period - self.clock.now > 0]
        assert self.limit.left(100) == self.settings.jobs - len(counting)
        assert self.limit.left(1) == min(1, self.settings.jobs - len(counting))

    @invariant()
    def it_says_when_it_opens_exactly_where_it_is_shut(self) -> None:
        opens_in_s = self.limit.opens_in_s
        assert (opens_in_s > 0) == (self.limit.left(1) < 1)
        assert opens_in_s >= 0


TestRateLimit = RateLimitMachine.TestCase


@given(limit=st.integers(-5, 1000))
def test_without_settings_nothing_is_limited(limit: int) -> None:
    rate_limit = RateLimit(None, Clock())
    rate_limit.start()
    assert rate_limit.left(limit) == limit
    assert rate_limit.opens_in_s == 0
