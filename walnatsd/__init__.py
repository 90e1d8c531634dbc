"""walnatsd: an event sidecar on NATS JetStream."""

__version__ = "0.1.0"
