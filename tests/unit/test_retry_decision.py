"""From an answer to what becomes of the message: the table of the contract, section 5, and what holds for all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.model.actor import Retry as RetryPolicy
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.retry import Ack, Cause, DeadLetter, Decision, Pause, Retry, decide
from walnatsd.webhook.answers import LONGEST_RETRY_AFTER_S, judge

NOW = 1_800_000_000.0
POLICY = RetryPolicy(delays=(1, 2, 4), jitter=0, max_attempts=5)

ACKNOWLEDGED = [200, 201, 202, 204, 206, 299]
UNAVAILABLE = [300, 301, 302, 303, 304, 307, 308, 399, 401, 403, 404, 405, 407, 502, 503, 504]
FAILED = [408, 409, 425, 429, 500, 505, 507, 508, 511, 520, 599]
REJECTED = [400, 402, 406, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 426, 428, 431, 451, 499, 501]


def after(status: int, *, attempt: int = 1, deliveries: int = 1, retry_after: str | None = None) -> Decision:
    outcome = judge(status, retry_after, "", now=NOW)
    return decide(outcome, attempt=attempt, deliveries=deliveries, policy=POLICY, draw=0.5)


@pytest.mark.parametrize("status", ACKNOWLEDGED)
def test_any_2xx_settles_the_message(status: int) -> None:
    assert after(status, attempt=99) == Ack()


@pytest.mark.parametrize("status", UNAVAILABLE)
def test_an_unavailable_actor_costs_no_attempt_however_often_it_is_called(status: int) -> None:
    assert after(status) == Retry(1, counts=False)
    assert after(status, attempt=99, deliveries=99) == Retry(4, counts=False)


@pytest.mark.parametrize("status", FAILED)
def test_a_failed_attempt_counts_and_the_last_one_makes_a_dead_letter(status: int) -> None:
    assert [after(status, attempt=n) for n in (1, 2, 3, 4)] == [Retry(s, counts=True) for s in (1, 2, 4, 4)]
    letter = after(status, attempt=5)
    assert isinstance(letter, DeadLetter)
    assert letter.cause is Cause.ATTEMPTS
    assert letter.reason.startswith("gave up after 5 attempts; the last one: ")
    assert str(status) in letter.reason


@pytest.mark.parametrize("status", REJECTED)
def test_a_rejected_message_is_a_dead_letter_at_once(status: int) -> None:
    letter = after(status)
    assert isinstance(letter, DeadLetter)
    assert letter.cause is Cause.REJECTED
    assert str(status) in letter.reason


def test_a_410_pauses_the_actor() -> None:
    assert after(410, attempt=99) == Pause("the actor answered 410")


@pytest.mark.parametrize("status", [100, 101, 199, 600, 999, 0])
def test_what_is_no_final_status_of_http_is_a_failure_and_not_a_loss(status: int) -> None:
    assert after(status) == Retry(1, counts=True)


def test_every_status_has_its_place_in_the_table() -> None:
    tables = {
        Verdict.ACKNOWLEDGED: ACKNOWLEDGED, Verdict.UNAVAILABLE: UNAVAILABLE, Verdict.FAILED: FAILED,
        Verdict.REJECTED: REJECTED, Verdict.GONE: [410],
    }  # fmt: skip
    for verdict, statuses in tables.items():
        assert {judge(status, None, "", now=NOW).verdict for status in statuses} == {verdict}
    named = {401, 403, 404, 405, 407, 408, 409, 410, 425, 429}
    for status in range(100, 600):
        verdict = judge(status, None, "", now=NOW).verdict
        if 200 <= status < 300:
            assert verdict is Verdict.ACKNOWLEDGED
        elif 300 <= status < 400:
            assert verdict is Verdict.UNAVAILABLE
        elif 400 <= status < 500 and status not in named:
            assert verdict is Verdict.REJECTED, status
        elif status >= 505:
            assert verdict is Verdict.FAILED, status


def test_the_reason_carries_what_the_actor_said() -> None:
    assert judge(400, None, "no such parcel", now=NOW).reason == "400: no such parcel"
    assert "redirects are never followed" in judge(302, None, "", now=NOW).reason


@pytest.mark.parametrize(("status", "holds"), [(429, True), (503, True), (500, False), (502, False), (408, False)])
def test_only_429_and_503_ask_for_quiet_for_the_whole_actor(status: int, holds: bool) -> None:
    assert judge(status, "7", "", now=NOW).holds_actor is holds
    assert judge(status, None, "", now=NOW).holds_actor is False
    assert after(status, retry_after="7").after_s == 7


@pytest.mark.parametrize("status", [200, 400, 410, 501])
def test_a_retry_after_means_nothing_where_nothing_is_retried(status: int) -> None:
    assert judge(status, "7", "", now=NOW).retry_after_s is None


# ---- what holds for all policies, outcomes and draws

policies = st.builds(
    RetryPolicy,
    delays=st.lists(st.floats(0, 1e6), min_size=1, max_size=9).map(tuple),
    jitter=st.floats(0, 1),
    max_attempts=st.none() | st.integers(1, 50),
)
outcomes = st.builds(
    judge,
    st.integers(100, 599),
    st.none() | st.integers(0, 10**12).map(str) | st.text(max_size=20),
    st.text(max_size=20),
    now=st.just(NOW),
)
counts = st.integers(1, 1000)


@given(outcomes, counts, counts, policies, st.floats(0, 1))
def test_a_wait_lies_within_the_jittered_delay_and_only_a_retry_after_raises_it(
    outcome: Outcome, attempt: int, deliveries: int, policy: RetryPolicy, draw: float
) -> None:
    decision = decide(outcome, attempt=attempt, deliveries=deliveries, policy=policy, draw=draw)
    if not isinstance(decision, Retry):
        return
    tries = attempt if decision.counts else deliveries
    delay_s = policy.delays[min(tries, len(policy.delays)) - 1]
    least, most = delay_s * (1 - policy.jitter), delay_s * (1 + policy.jitter)
    asked_s = outcome.retry_after_s or 0.0
    slack = 1e-9 * most
    assert 0 <= asked_s <= LONGEST_RETRY_AFTER_S
    assert decision.after_s >= max(least - slack, asked_s)
    assert decision.after_s <= max(most + slack, asked_s)


@given(outcomes, counts, counts, policies, st.floats(0, 1))
def test_what_is_not_the_messages_fault_never_makes_a_dead_letter(
    outcome: Outcome, attempt: int, deliveries: int, policy: RetryPolicy, draw: float
) -> None:
    decision = decide(outcome, attempt=attempt, deliveries=deliveries, policy=policy, draw=draw)
    match outcome.verdict:
        case Verdict.ACKNOWLEDGED:
            assert isinstance(decision, Ack)
        case Verdict.UNAVAILABLE:
            assert isinstance(decision, Retry)
            assert not decision.counts
        case Verdict.GONE:
            assert isinstance(decision, Pause)
        case Verdict.REJECTED:
            assert isinstance(decision, DeadLetter)
        case Verdict.FAILED:
            given_up = policy.max_attempts is not None and attempt >= policy.max_attempts
            assert isinstance(decision, DeadLetter if given_up else Retry)


@given(policies, st.floats(0, 1))
def test_the_first_retry_waits_the_first_delay(policy: RetryPolicy, draw: float) -> None:
    """walnats was off by one and never used it."""
    decision = decide(
        Outcome(Verdict.FAILED, "500"), attempt=1, deliveries=1, policy=policy.model_copy(update={"max_attempts": 2}),
        draw=draw,
    )  # fmt: skip
    assert isinstance(decision, Retry)
    first_s = policy.delays[0]
    assert decision.after_s == pytest.approx(first_s * (1 + policy.jitter * (2 * draw - 1)))
