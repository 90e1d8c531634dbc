"""All scenarios, in the order of docs/reliability.md. A new one is a module with `SCENARIOS`, named here."""

from faults import sidecar_kills
from faults.scenario import Scenario

ALL: list[Scenario] = [*sidecar_kills.SCENARIOS]
