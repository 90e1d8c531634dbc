"""The outbox on disk: what was emitted while NATS is away."""
