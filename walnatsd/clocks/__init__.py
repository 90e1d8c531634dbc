"""Periodic events: their schedules in NATS, and what a tick becomes."""
