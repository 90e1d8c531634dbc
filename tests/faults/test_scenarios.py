"""Every scenario in its short form; `make faults` has the long one."""

import pytest

from faults.scenario import Scenario
from faults.scenarios import ALL

SEED = 5


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
async def test_what_is_promised_holds_when(scenario: Scenario, tmp_path) -> None:
    verdict = await scenario.play(scenario.short, seed=SEED, folder=tmp_path)
    assert verdict.is_good, verdict.text
