"""Everything that speaks NATS, and the sole importer of the nats library."""
