"""All scenarios, in the order of docs/reliability.md. A new one is a module with `SCENARIOS`, named here."""

from faults import (
    bad_receivers,
    bad_ways,
    cluster_faults,
    credentials,
    full_disks,
    meddling,
    nats_outages,
    rolling_restart,
    sidecar_kills,
    soak,
)
from faults.scenario import Scenario

ALL: list[Scenario] = [
    *sidecar_kills.SCENARIOS,
    *nats_outages.SCENARIOS,
    *bad_ways.SCENARIOS,
    *cluster_faults.SCENARIOS,
    *bad_receivers.SCENARIOS,
    *full_disks.SCENARIOS,
    *credentials.SCENARIOS,
    *meddling.SCENARIOS,
    *rolling_restart.SCENARIOS,
    *soak.SCENARIOS,
]
