"""Which failures are reported, beside what walnats' own middlewares let through."""

from types import SimpleNamespace
from typing import Any

import walnats.middlewares
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.observe.alarm import AGAIN_AFTER_S, TOLERATED_FAILURES, Alarm, Ruling

ACTOR, OTHER = ("counts", "print"), ("counts", "add")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_failure_after_twenty_in_a_row_is_reported_and_a_success_ends_the_row() -> None:
    alarm = Alarm(Clock())
    tolerated = [alarm.failed(ACTOR, "failed 500", attempt=1) for _ in range(TOLERATED_FAILURES)]
    assert set(tolerated) == {Ruling.TOLERATED}
    alarm.succeeded(ACTOR)
    again = [alarm.failed(ACTOR, "failed 500", attempt=1) for _ in range(TOLERATED_FAILURES + 1)]
    assert set(again) == {Ruling.TOLERATED}  # the count is compared before it grows, as in walnats
    assert alarm.failed(ACTOR, "failed 500", attempt=1) is Ruling.REPORTED


def test_a_message_that_was_tried_more_than_twenty_times_is_reported_at_once() -> None:
    alarm = Alarm(Clock())
    assert alarm.failed(ACTOR, "failed 500", attempt=TOLERATED_FAILURES) is Ruling.TOLERATED
    assert alarm.failed(ACTOR, "failed 500", attempt=TOLERATED_FAILURES + 1) is Ruling.REPORTED


def test_the_same_kind_of_failure_of_an_actor_is_not_reported_again_for_ten_minutes() -> None:
    clock = Clock()
    alarm = Alarm(clock)
    assert alarm.given_up(ACTOR, "rejected 422") is Ruling.REPORTED
    assert alarm.given_up(ACTOR, "rejected 422") is Ruling.REPEATED
    assert alarm.given_up(ACTOR, "rejected 400") is Ruling.REPORTED
    assert alarm.given_up(OTHER, "rejected 422") is Ruling.REPORTED
    clock.now += AGAIN_AFTER_S - 1
    assert alarm.given_up(ACTOR, "rejected 422") is Ruling.REPEATED
    clock.now += 1
    assert alarm.given_up(ACTOR, "rejected 422") is Ruling.REPORTED


@given(st.lists(st.tuples(st.sampled_from(["print", "add"]), st.integers(0, 9), st.integers(1, 25)), max_size=200))
def test_failures_are_tolerated_exactly_where_the_walnats_middleware_tolerates_them(
    steps: list[tuple[str, int, int]],
) -> None:
    """One step in ten is a success; the clock goes on so far that nothing is repeated."""
    passed: list[bool] = []
    reference = walnats.middlewares.ErrorThresholdMiddleware(_Recorder(passed))
    clock = Clock()
    alarm = Alarm(clock)
    for name, draw, attempt in steps:
        context: Any = SimpleNamespace(
            actor=SimpleNamespace(name=name, event=SimpleNamespace(name="counts")), attempts=attempt
        )
        if draw == 0:
            reference.on_success(context)
            alarm.succeeded(("counts", name))
            continue
        passed.clear()
        reference.on_failure(context)
        clock.now += AGAIN_AFTER_S
        assert (alarm.failed(("counts", name), "failed 500", attempt=attempt) is Ruling.REPORTED) == bool(passed)


class _Recorder(walnats.middlewares.Middleware):
    def __init__(self, passed: list[bool]) -> None:
        self.passed = passed

    def on_failure(self, ctx: Any) -> None:
        self.passed.append(True)
