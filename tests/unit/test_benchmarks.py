"""What the benchmark says of what it measured."""

import asyncio
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.case import Bar, Case, Figures, Scale
from benchmarks.stage import Stage

ROOT = Path(__file__).parents[2]


async def _nothing(_stage: Stage, _scale: Scale) -> Figures:
    return {}


def case(name: str, *bars: Bar) -> Case:
    return Case(name, _nothing, bars)


EMITS = case("emits", Bar("ours", 1.5, "peer"))
WAIT = case("wait", Bar("p99", 5, at_most=True))
RESULTS: report.Results = [
    (EMITS, [{"ours": 100.0, "peer": 100.0}, {"ours": 400.0, "peer": 200.0}, {"ours": 900.0, "peer": 300.0}]),
    (WAIT, [{"p99": 4.0}, {"p99": 6.0}, {"p99": 7.0}]),
]


def test_a_ratio_is_the_median_of_those_of_each_round() -> None:
    [(_, rounds), _] = RESULTS
    [bar] = EMITS.bars
    assert bar.value(rounds) == 2.0
    assert bar.is_met(rounds)
    assert not bar.is_met(rounds[:1])


def test_a_limit_is_met_from_below() -> None:
    [bar] = WAIT.bars
    assert bar.value([{"p99": 4.0}, {"p99": 6.0}, {"p99": 7.0}]) == 6.0
    assert not bar.is_met([{"p99": 6.0}])
    assert bar.is_met([{"p99": 5.0}])


def test_the_table_says_of_each_bar_whether_it_is_met() -> None:
    lines = [line.strip() for line in report.table(RESULTS).splitlines()]
    assert lines == [
        "emits (per s), 3 rounds",
        "ours 400   peer 200",
        "met     ours ≥ 1.5 x peer: 2.00",
        "wait (per s), 3 rounds",
        "p99 6.00",
        "MISSED  p99 ≤ 5: 6.00",
    ]


async def test_the_chart_shows_how_much_of_each_bar_is_reached(tmp_path) -> None:
    file = tmp_path / "chart.svg"
    script = (
        f"from tests.unit.test_benchmarks import RESULTS, report; report.chart(RESULTS, report.Path({str(file)!r}))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=ROOT)
    assert await child.wait() == 0
    drawn = "".join(ET.parse(file).getroot().itertext())
    assert "emits: ours ≥ 1.5 x peer" in drawn
    assert "1.33" in drawn  # 2.0 of 1.5
    assert "0.83" in drawn  # 6 where 5 are allowed


def test_each_bar_stands_beside_what_is_kept(tmp_path) -> None:
    kept = tmp_path / "kept.json"
    report.keep(RESULTS[:1], kept)
    now: report.Results = [(EMITS, [{"ours": 300.0, "peer": 100.0}]), RESULTS[1]]
    _, emits, wait = report.compare(now, kept).splitlines()
    assert emits.split()[:3] == ["3.00", "2.00", "1.50"]
    assert wait.split()[:2] == ["6.00", "-"]


def test_what_was_not_measured_is_kept_as_it_was(tmp_path) -> None:
    kept = tmp_path / "kept.json"
    report.keep(RESULTS, kept)
    report.keep([(WAIT, [{"p99": 1.0}])], kept)
    cases = json.loads(kept.read_text())["cases"]
    assert [(case["name"], case["bars"][0]["value"], len(case["rounds"])) for case in cases] == [
        ("emits", 2.0, 3), ("wait", 1.0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "emits of elephants"], "no case has 'emits of elephants' in its name: emit, 64 callers; "),
        (["--rounds", "0"], "argument --rounds: invalid"),
    ],
)
async def test_what_can_not_be_measured_is_refused(arguments, told) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks", *arguments, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    assert (child.returncode, out) == (2, b"")
    assert told in err.decode()
