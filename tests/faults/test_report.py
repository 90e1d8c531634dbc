"""What comes out of the scenarios is told fully, and the page knows them all."""

import json
from pathlib import Path

import pytest

from faults.fuzzing import NAME, NUMBER, Fuzzed
from faults.ledger import Ledger, Sighting
from faults.report import Results
from faults.scenarios import ALL
from faults.table import table
from faults.verdict import Bound, Verdict

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.fixture
def verdict() -> Verdict:
    """Two messages, of which one is lost and one came twice."""
    ledger = Ledger({"counts": ["audit"]})
    for number, uid in enumerate("ab"):
        ledger.emit(uid, "counts")
        ledger.acknowledge(uid, number + 1)
    ledger.see("a", "audit", Sighting(1.0, 204, 1))
    ledger.see("a", "audit", Sighting(1.0, 204, 1))
    return Verdict(7, 2.0, ledger.findings(), (Bound(16, "in its hands"),), ((1.0, "a kill"),) * 3, {"tasks": 12})


def test_every_scenario_has_a_name_of_its_own_and_is_described_on_the_page() -> None:
    names = [scenario.name for scenario in ALL]
    assert len(set(names)) == len(names)
    text = PAGE.read_text()
    rows = [f"| {scenario.number} | `{scenario.name}` |" for scenario in ALL] + [f"| {NUMBER} | `{NAME}` |"]
    assert [row for row in rows if row not in text] == []


def test_the_report_tells_what_was_broken_and_what_is_wrong(verdict) -> None:
    results = Results()
    results.add(ALL[0], verdict)
    assert not results.are_good
    [row] = json.loads(results.as_json()).values()
    assert row["findings"]["lost"] == [["b", "audit"]]
    text = results.as_markdown()
    assert f"| `{ALL[0].name}` | 3 x a kill | 2 | 0 | 2 | 1 | 1 of 16 | 0 | 0 | **no** |" in text
    assert f"- `{ALL[0].name}`: tasks 12; 1 lost: b for audit." in text


def test_a_scenario_that_could_not_be_carried_out_is_no_success() -> None:
    results = Results()
    results.add_failure(ALL[0], 7, "no disk")
    assert not results.are_good
    assert f"- `{ALL[0].name}`: no disk." in results.as_markdown()


def test_what_was_fuzzed_is_in_the_report() -> None:
    results = Results()
    results.add_fuzzed(7, Fuzzed(is_good=True, seconds=60.0, passed=31, text="31 passed"))
    assert results.are_good
    assert "| `fuzz` | | | | | | | | | yes |" in results.as_markdown()
    assert "- `fuzz`: tests passed 31." in results.as_markdown()
    results.add_fuzzed(7, Fuzzed(is_good=False, seconds=60.0, passed=30, text="1 failed, 30 passed"))
    assert not results.are_good


def test_scenarios_stand_in_the_order_of_their_numbers() -> None:
    rows = {name: {"number": number, "good": True, "problems": []} for name, number in (("z", 1), ("a", 2))}
    assert table(rows).index("`z`") < table(rows).index("`a`")
