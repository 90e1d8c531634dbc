"""A verdict is good only where something was proven and nothing is wrong."""

from typing import Any

import pytest

from faults.ledger import Ledger, Sighting
from faults.verdict import Bound, Verdict


@pytest.fixture
def ledger() -> Ledger:
    """One message, handled."""
    ledger = Ledger({"counts": ["audit"]})
    ledger.emit("a", "counts")
    ledger.acknowledge("a", 1)
    ledger.see("a", "audit", Sighting(1.0, 204, 1))
    return ledger


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
    assert problem == "1 seen after the ack was confirmed: a for audit 7.50 s later (confirmed 1.50 s before a kill)"


def test_what_the_scenario_complains_of_is_a_problem(ledger) -> None:
    assert judge(ledger, complaints=("it hangs",)).problems == ("it hangs",)
