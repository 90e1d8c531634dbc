"""The cases of the benchmark, with little of everything: they measure what they say, and leave nothing behind."""

import pytest

from benchmarks.__main__ import CASES
from benchmarks.case import Case, Scale
from benchmarks.stage import stage

LITTLE = Scale(rounds=1, seconds=0.2, messages=200, drained=1000)
BRIEF = [case for case in CASES if not case.once and not case.needs]


@pytest.mark.parametrize("case", BRIEF, ids=lambda case: case.name)
async def test_a_case_measures_all_that_its_bars_compare(tmp_path, case: Case) -> None:
    async with stage(tmp_path) as where:
        figures = await case.measure(where, LITTLE)
    for bar in case.bars:
        assert figures[bar.of] > 0
        assert not bar.to or figures[bar.to] > 0
