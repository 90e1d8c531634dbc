"""What the tests of the harness begin with."""

import pytest

from faults.ledger import Ledger, Sighting


@pytest.fixture
def ledger() -> Ledger:
    """One message that its actor has answered."""
    ledger = Ledger({"counts": ["audit"]})
    ledger.emit("a", "counts")
    ledger.acknowledge("a", 1)
    ledger.see("a", "audit", Sighting(1.0, 204, 1))
    return ledger
