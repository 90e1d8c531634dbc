"""A verdict is good only where something was proven and nothing is wrong."""

from typing import Any

from faults.ledger import Attempt, Ledger, Sighting
from faults.standstill import OBSERVER, StandStill
from faults.verdict import Bound, Verdict


def judge(ledger: Ledger, **facts: Any) -> Verdict:
    return Verdict(
        **(
            {"seed": 1, "seconds": 2.0, "findings": ledger.findings(), "bounds": (), "timeline": ((3.0, "a kill"),)}
            | facts
        )
    )


def test_all_in_order_is_good(ledger) -> None:
    verdict = judge(ledger, bounds=(Bound(48, "in its hands"),))
    assert verdict.is_good
    assert "all that is promised held" in verdict.text


def test_where_nothing_was_broken_nothing_is_proven(ledger) -> None:
    assert not judge(ledger, timeline=()).is_good


def test_where_nothing_was_acknowledged_nothing_is_proven() -> None:
    assert not judge(Ledger({"counts": ["audit"]})).is_good


def test_the_lost_are_named(ledger) -> None:
    ledger.emit("b", "counts")
    ledger.acknowledge("b", 2)
    assert judge(ledger).problems == ("1 lost: b for audit",)


def test_of_many_the_first_are_named(ledger) -> None:
    for number in range(12):
        ledger.emit(f"b{number:02}", "counts")
        ledger.acknowledge(f"b{number:02}", number + 2)
    [problem] = judge(ledger).problems
    assert problem.startswith("12 lost: b00 for audit, b01 for audit")
    assert problem.endswith("b09 for audit and 2 more")


def test_more_duplicates_than_the_faults_explain_are_a_problem(ledger) -> None:
    for _ in range(3):
        ledger.see("a", "audit", Sighting(1.0, 204, 1))
    bound = Bound(1, "in its hands")
    assert judge(ledger, bounds=(bound, bound, bound)).is_good
    assert judge(ledger, bounds=(bound, bound)).problems == ("3 duplicates, where 2 may be: 2 x 1 in its hands",)


def test_a_message_seen_after_its_ack_is_a_problem(ledger) -> None:
    ledger.confirm("a", "audit", 1.5)
    ledger.see("a", "audit", Sighting(9.0, 204, 1))
    [problem] = judge(ledger, bounds=(Bound(5, "in its hands"),)).problems
    assert problem == (
        "1 seen after the ack was confirmed: a for audit 7.50 s later (confirmed 1.50 s before a kill; "
        "nobody stood still meanwhile; no sidecar tells of an attempt)"
    )


def test_a_message_seen_after_its_ack_has_the_words_of_the_sidecars_and_how_late_the_observer_was(ledger) -> None:
    ledger.attempt("a", "audit", Attempt("sidecar-1", 1, 1.5, 0.02, "Ack"))
    ledger.confirm("a", "audit", 1.5)
    ledger.attempt("a", "audit", Attempt("sidecar-2", 2, 9.25, 7.0, "Ack"))
    ledger.see("a", "audit", Sighting(9.0, 204, 1))
    stills = [StandStill(until=1.0, for_s=9.0), StandStill(until=9.0, for_s=6.5)]
    others = {"sidecar-1": stills[:1], "sidecar-2": [StandStill(until=4.0, for_s=0.5)]}
    verdict = judge(ledger, bounds=(Bound(5, "in its hands"),), stand_stills={OBSERVER: stills} | others)
    [problem] = verdict.problems
    assert problem.endswith(
        "the observer stood still for up to 6.50 s, sidecar-2 stood still for up to 0.50 s meanwhile; "
        "sidecar-1's attempt 1 took 0.02 s and was settled +0.00 s from then: Ack, "
        "sidecar-2's attempt 2 took 7.00 s and was settled +7.75 s from then: Ack)"
    )
    assert "stood still at most: the observer 9.00 s, sidecar-1 9.00 s, sidecar-2 0.50 s" in verdict.text
    assert verdict.as_json()["stood_still_s"] == {"the observer": 9.0, "sidecar-1": 9.0, "sidecar-2": 0.5}


def test_of_many_attempts_at_a_message_the_last_ones_are_quoted(ledger) -> None:
    ledger.confirm("a", "audit", 1.5)
    for number in range(1, 9):
        ledger.attempt("a", "audit", Attempt("sidecar-1", number, 1.5 + number, 0.02, "Ack"))
    ledger.see("a", "audit", Sighting(9.0, 204, 1))
    [problem] = judge(ledger, bounds=(Bound(5, "in its hands"),)).problems
    assert "attempt 3 " not in problem
    assert all(f"attempt {number} " in problem for number in range(4, 9))


def test_what_the_scenario_complains_of_is_a_problem(ledger) -> None:
    assert judge(ledger, complaints=("it hangs",)).problems == ("it hangs",)
