"""Real processes, real faults, and a ledger that knows every message: see docs/reliability.md."""
