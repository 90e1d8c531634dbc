"""What came out of all scenarios: JSON for programs, a table for people, and what is kept for the documentation."""

import json
import platform
import time
from pathlib import Path
from typing import Any

import psutil

from faults import fuzzing
from faults.fuzzing import Fuzzed
from faults.scenario import Scenario
from faults.table import table
from faults.verdict import Verdict

KEPT = Path(__file__).with_name("kept.json")


class Results:
    """Collects verdicts."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}

    def add(self, scenario: Scenario, verdict: Verdict) -> None:
        self._rows[scenario.name] = _facts(scenario.number, scenario.title) | verdict.as_json()

    def add_failure(self, scenario: Scenario, seed: int, why: str) -> None:
        """A scenario that could not be carried out."""
        facts = _facts(scenario.number, scenario.title)
        self._rows[scenario.name] = facts | {"good": False, "seed": seed, "problems": [why]}

    def add_fuzzed(self, seed: int, fuzzed: Fuzzed) -> None:
        """The tests that no ledger judges."""
        self._rows[fuzzing.NAME] = _facts(fuzzing.NUMBER, fuzzing.TITLE) | {
            "good": fuzzed.is_good,
            "seed": seed,
            "seconds": round(fuzzed.seconds, 1),
            "figures": {"tests passed": fuzzed.passed},
            "problems": [] if fuzzed.is_good else ["not all of them passed"],
        }

    @property
    def are_good(self) -> bool:
        return all(row["good"] for row in self._rows.values())

    def as_json(self) -> str:
        return json.dumps(self._rows, indent=1) + "\n"

    def as_markdown(self) -> str:
        return table(self._rows)


def _facts(number: int, title: str) -> dict[str, Any]:
    return {
        "number": number,
        "title": title,
        "on": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{psutil.cpu_count()} cores, Python {platform.python_version()}",
        "load_before": round(psutil.getloadavg()[0], 1),
    }


def keep(results: Results) -> None:
    """Put these results beside those that are kept of scenarios that did not run now."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    fresh = json.loads(results.as_json())
    for row in fresh.values():
        for many in ("lost", "after_ack", "wrong_answers"):  # names mean nothing later; problems have the first ones
            if "findings" in row:
                row["findings"][many] = row["findings"][many][:10]
    KEPT.write_text(json.dumps(dict(sorted((kept | fresh).items())), indent=1) + "\n")
