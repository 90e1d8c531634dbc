"""The listening addresses: translation between a protocol and the use cases, nothing else."""
