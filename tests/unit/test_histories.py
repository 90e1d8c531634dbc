"""What a sidecar remembers of the attempts at a message, and whether that is all."""

import json

from walnatsd.broker.dead_letters import MAX_HISTORY_LENGTH, history_json
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.envelope import NO_PAST, Past
from walnatsd.broker.wire import AckSubject
from walnatsd.dispatch import attempts as module
from walnatsd.dispatch.attempts import Attempts
from walnatsd.model.attempt import Attempt
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict


def delivery(delivered: int, *, past: Past = NO_PAST, stream: str = "counts", sequence: int = 1) -> Delivery:
    message = Message("counts", b"", {}, "counts", 1, 1.0)
    facts = AckSubject(stream, "print", delivered, sequence, 1.0)
    return Delivery(None, None, "", message, facts, past)  # type: ignore[arg-type]


def attempt(number: int, answer: str = "") -> Attempt:
    return Attempt(number, 1.0, 0.5, Outcome(Verdict.FAILED, "the actor answered 500", 500, answer=answer))


def numbers(attempts: Attempts, of: Delivery) -> list[int]:
    return [each.number for each in attempts.history(of).attempts]


def test_who_saw_all_hand_overs_has_the_complete_history() -> None:
    attempts = Attempts()
    attempts.remember(delivery(1), attempt(1))
    attempts.defer(delivery(2))
    attempts.remember(delivery(3), attempt(2))
    assert numbers(attempts, delivery(3)) == [1, 2]
    assert attempts.history(delivery(3)).complete


def test_who_missed_a_hand_over_says_so() -> None:
    attempts = Attempts()
    attempts.remember(delivery(2), attempt(2))
    attempts.remember(delivery(3), attempt(3))
    assert numbers(attempts, delivery(3)) == [2, 3]
    assert not attempts.history(delivery(3)).complete


def test_an_attempt_elsewhere_that_did_not_count_is_missed_too() -> None:
    attempts = Attempts()
    attempts.remember(delivery(2), attempt(1))
    assert not attempts.history(delivery(2)).complete


def test_a_message_that_was_parked_keeps_its_history() -> None:
    attempts = Attempts()
    first, second = delivery(1), delivery(1, past=Past(attempts=1, hand_overs=1), stream="walnatsd", sequence=90)
    attempts.remember(first, attempt(1))
    attempts.park(first)
    attempts.remember(second, attempt(2))
    assert numbers(attempts, second) == [1, 2]
    assert attempts.history(second).complete


def test_what_somebody_else_parked_is_known_to_be_incomplete() -> None:
    attempts = Attempts()
    parked = delivery(1, past=Past(attempts=1, hand_overs=1), stream="walnatsd", sequence=90)
    attempts.remember(parked, attempt(2))
    assert not attempts.history(parked).complete


def test_deferrals_of_the_place_that_a_message_was_parked_from_do_not_count_again() -> None:
    attempts = Attempts()
    attempts.defer(delivery(1))
    attempts.remember(delivery(2), attempt(1))
    attempts.park(delivery(2))
    assert attempts.number(delivery(1, past=Past(attempts=1, hand_overs=2), stream="walnatsd", sequence=90)) == 2


def test_a_hand_over_that_came_too_early_is_no_attempt_whoever_saw_it() -> None:
    seen, unseen = Attempts(), Attempts()
    early = delivery(2, past=Past(attempts=1, hand_overs=1), stream="walnatsd", sequence=90)
    early._deferred_first = True
    seen.defer(early)
    assert seen.number(early) == unseen.number(early) == 2


def test_a_settled_message_is_forgotten() -> None:
    attempts = Attempts()
    attempts.remember(delivery(1), attempt(1))
    attempts.forget(delivery(1))
    assert numbers(attempts, delivery(1)) == []
    assert attempts._size == 0


def test_of_very_many_attempts_the_last_ones_are_remembered(monkeypatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_ATTEMPTS", 3)
    attempts = Attempts()
    for number in range(1, 6):
        attempts.remember(delivery(number), attempt(number))
    assert numbers(attempts, delivery(5)) == [3, 4, 5]
    assert not attempts.history(delivery(5)).complete


def test_the_history_of_the_message_that_was_not_seen_for_longest_goes_first(monkeypatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_CHARACTERS", 1000)
    attempts = Attempts()
    others = [Message("counts", b"", {}, "counts", number, 1.0) for number in range(2, 9)]
    attempts.remember(delivery(1), attempt(1, "x" * 100))
    for other in others:
        held = delivery(1)
        held.message = other
        attempts.remember(held, attempt(1, "x" * 100))
    assert numbers(attempts, delivery(1)) == []
    assert attempts._size <= 1000


def test_a_long_history_loses_its_first_attempts_and_says_so() -> None:
    history = {"complete": True, "attempts": [attempt(number, "ü" * 1024).as_json() for number in range(1, 31)]}
    text = history_json(history)
    read = json.loads(text)
    assert len(text) <= MAX_HISTORY_LENGTH
    assert text.isascii()
    assert read["complete"] is False
    assert read["attempts"] == history["attempts"][-len(read["attempts"]) :]  # type: ignore[index]
    assert len(history["attempts"]) == 30  # type: ignore[arg-type]


def test_an_attempt_without_an_answer_has_a_reason_instead() -> None:
    assert attempt(1).as_json() == {
        "attempt": 1, "at": "1970-01-01T00:00:01.000Z", "duration_ms": 500.0, "outcome": "failed", "status": 500,
        "reason": "the actor answered 500",
    }  # fmt: skip
    assert attempt(1, "x" * 3000).as_json()["answer"] == "x" * 1024
