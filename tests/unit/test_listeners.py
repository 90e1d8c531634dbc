"""Sessions of the gRPC stream, without the stream."""

import asyncio
import contextlib

import pytest

from walnatsd.listeners import session as session_module
from walnatsd.listeners.listeners import Listeners
from walnatsd.listeners.session import TAKEN_BYTES, Session
from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.metrics import Metrics


def message(payload: bytes = b"", sequence: int = 1) -> Message:
    return Message("counts", payload, {}, "counts", sequence, 0.0)


def listeners(**options: object) -> Listeners:
    return Listeners(Actor.model_validate({"name": "print", "event": "counts", **options}), Metrics())


async def begin(ours: Listeners, count: int, payload: bytes = b"") -> list["asyncio.Task[Outcome]"]:
    """Begin so many attempts; each has been handed over."""
    attempts = [asyncio.create_task(ours.attempt(message(payload, number), 1)) for number in range(1, count + 1)]
    await asyncio.sleep(0)
    return attempts


async def take(session: Session) -> list[int]:
    taken = await session.take()
    assert taken is not None
    return [handover.message.sequence for handover in taken]


async def test_all_that_was_handed_over_in_one_turn_is_taken_at_once_in_order() -> None:
    ours = listeners()
    with ours.join(10) as session:
        await begin(ours, 7)
        assert await take(session) == [1, 2, 3, 4, 5, 6, 7]


async def test_what_is_taken_at_once_fits_a_message_of_common_clients() -> None:
    ours = listeners()
    with ours.join(10) as session:
        await begin(ours, 5, payload=b"x" * (TAKEN_BYTES // 2 - 1000))
        assert [await take(session) for _ in range(3)] == [[1, 2], [3, 4], [5]]


async def test_a_message_that_is_larger_than_that_is_taken_alone() -> None:
    ours = listeners()
    with ours.join(10) as session:
        await begin(ours, 2, payload=b"x" * (TAKEN_BYTES + 1))
        assert [await take(session) for _ in range(2)] == [[1], [2]]


async def test_a_session_that_is_idle_is_given_heartbeats(monkeypatch) -> None:
    monkeypatch.setattr(session_module, "HEARTBEAT_S", 0.01)
    ours = listeners()
    with ours.join(1) as session:
        assert await take(session) == []
        assert await take(session) == []
        await begin(ours, 1)
        assert await take(session) == [1]


async def test_the_credit_is_the_sum_of_the_sessions_and_every_change_is_told() -> None:
    ours = listeners(max_jobs=5)
    told: list[int] = []
    ours.changed = lambda: told.append(ours.credit())
    with ours.join(3), ours.join(0) as other:
        other.stop_taking()
    assert told == [3, 8, 3, 3, 0]


async def test_the_least_loaded_session_comes_first_by_the_share_of_its_places() -> None:
    ours = listeners()
    with ours.join(2) as small, ours.join(8) as large:
        await begin(ours, 10)
        assert (len(small), len(large)) == (2, 8)
        first = [await take(small), await take(large)]
    assert first[0] == [1, 6]


async def test_nobody_is_given_more_than_there_is_room_for() -> None:
    ours = listeners()
    assert (await ours.attempt(message(), 1)).verdict is Verdict.HANDED_BACK
    with ours.join(1) as session:
        [held] = await begin(ours, 1)
        assert (await ours.attempt(message(), 1)).verdict is Verdict.HANDED_BACK
        session.acknowledge(1, b"", "")
        assert (await held).verdict is Verdict.ACKNOWLEDGED


async def test_an_attempt_that_is_cancelled_frees_its_place_and_is_not_sent() -> None:
    ours = listeners()
    with ours.join(2) as session:
        cancelled, _ = await begin(ours, 2)
        cancelled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        assert len(session) == 1
        assert await take(session) == [2]


async def test_each_expires_at_its_own_time() -> None:
    session = Session(3, responds=False, changed=lambda: None, ignored=lambda: None)
    late = Outcome(Verdict.FAILED, "late")
    came: list[Outcome] = []
    for expires_at in (10.0, 20.0, 30.0):
        session.hand_over(message(), 1, came.append, deadline=0.0, expires_at=expires_at)
    session.acknowledge(2, b"", "")
    assert session.expire(9.9, late) == 10.0
    assert session.expire(10.0, late) == 30.0
    assert [outcome.reason for outcome in came] == ["acknowledged", "late"]
    assert session.expire(30.0, late) is None
    assert came[2:] == [late]


async def test_what_is_taken_back_is_not_sent_any_more_and_its_result_is_ignored() -> None:
    ignored: list[int] = []
    session = Session(3, responds=False, changed=lambda: None, ignored=lambda: ignored.append(1))
    came: list[Outcome] = []
    first, second = message(sequence=1), message(sequence=1)  # equal, as a redelivery is, and another one all the same
    for each in (first, second):
        session.hand_over(each, 1, came.append, deadline=0.0, expires_at=10.0)
    session.forget(first)
    assert await take(session) == [1]
    session.acknowledge(1, b"", "")
    assert (came, ignored) == ([], [1])
    session.acknowledge(2, b"", "")
    assert len(came) == 1


async def test_what_is_not_answered_within_job_timeout_has_failed_and_tells_that_the_actor_is_overloaded() -> None:
    ours = listeners(job_timeout=0.02)
    with ours.join(2):
        for _ in range(2):  # the timer is set again
            for attempt in await begin(ours, 2):
                outcome = await attempt
                assert (outcome.verdict, outcome.overloaded) == (Verdict.FAILED, True)
                assert "job_timeout (0.02 s)" in outcome.reason


async def test_a_session_that_ends_hands_back_and_says_why() -> None:
    ours = listeners()
    why = Refusal(Reason.REPLACED, "come again")
    with ours.join(2) as session:
        held = await begin(ours, 2)
        ours.end(why)
        assert [(await each).verdict for each in held] == [Verdict.HANDED_BACK] * 2
        with pytest.raises(Refusal, match="come again"):
            await session.take()
        assert session.handed_back == 2
    with pytest.raises(Refusal, match="come again"), ours.join(1):
        pass


async def test_a_session_that_stops_keeps_what_was_sent_and_hands_back_what_was_not() -> None:
    ours = listeners()
    with ours.join(4) as session:
        [sent] = await begin(ours, 1)
        assert await take(session) == [1]
        [unsent] = await begin(ours, 1)
        session.stop_taking()
        assert (await unsent).verdict is Verdict.HANDED_BACK
        session.reject(1, "no")
        assert (await sent).reason == "no"


@pytest.mark.parametrize(("after_s", "bounded_s"), [(None, None), (0.25, 0.25), (-1.0, 0.0), (1e9, 3600.0)])
async def test_a_retry_waits_as_long_as_it_says_but_no_longer_than_an_hour(after_s, bounded_s) -> None:
    ours = listeners()
    with ours.join(1) as session:
        [attempt] = await begin(ours, 1)
        session.retry(1, after_s, " not\r\nnow ")
        outcome = await attempt
    assert (outcome.verdict, outcome.retry_after_s, outcome.reason) == (Verdict.FAILED, bounded_s, "not now")
    assert not outcome.holds_actor


async def test_only_an_actor_that_responds_has_a_response() -> None:
    responses = []
    for responds in (True, False):
        ours = listeners(responds=responds)
        with ours.join(1) as session:
            [attempt] = await begin(ours, 1)
            session.acknowledge(1, b"7", "")
            responses.append((await attempt).response)
    assert responses[0] is not None
    assert (responses[0].payload, responses[0].content_type) == (b"7", "application/json")
    assert responses[1] is None
