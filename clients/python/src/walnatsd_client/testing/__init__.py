"""A connection to a sidecar in memory, for tests of what emits and acts: no NATS, no sidecar, no sockets.

```python
async def test_a_parcel_is_counted() -> None:
    async with testing.connect(COUNT_PARCELS) as conn:
        await conn.emit(PARCEL_SENT, Parcel(7))
        await conn.settle()
        assert conn.dead_letters(COUNT_PARCELS) == ()
```

It is the client's own `Connection`: serializers, uids, errors, sessions and handlers are the real ones, and what is
emitted goes through the messages of the contract. In memory is the sidecar with its NATS. It has

- streams with sequences, deduplication within `duplicate_window`, `expected_last_sequence`, `min_actors`, the limits
  `messages` with `when_full` and `consumers`; what is emitted while there is no actor is not stored;
- delays, retries with the delays of the policy (without jitter), `max_attempts`, dead letters, `job_timeout`;
- `max_jobs`, `order_by`, `match_time`, `start`;
- requests and `monitor`.

For blocking code there is `connect_sync`.

It doesn't have: `filter` (an actor that has one is refused), other limits, `rate_limit`, `breaker`, `wait_for`,
`priority`, schemas and codecs of the sidecar's file. These need a sidecar.
"""

from walnatsd_client.testing._connection import DeadLetter, Emitted, MemoryConnection, connect
from walnatsd_client.testing._sync import MemorySyncConnection, connect_sync

__all__ = ["DeadLetter", "Emitted", "MemoryConnection", "MemorySyncConnection", "connect", "connect_sync"]
