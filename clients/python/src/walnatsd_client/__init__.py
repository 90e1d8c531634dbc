"""Client of walnatsd: declare events and actors, emit, and serve actors as webhooks.

```python
import walnatsd_client as walnatsd

COUNT = walnatsd.Event("counts", int)
PRINT = walnatsd.Actor("print", COUNT, print, url="http://127.0.0.1:8000/")

async with walnatsd.connect("127.0.0.1:7520") as conn:
    await conn.register(COUNT, PRINT)
    await conn.emit(COUNT, 1)

app = walnatsd.asgi_app(PRINT)
```
"""

from walnatsd_client._actor import Actor, Batch, BatchActor, Breaker, MatchTime, OrderHeader, RateLimit, RetryPolicy
from walnatsd_client._cloud_event import CloudEvent
from walnatsd_client._connection import Connection, Receipt, Registered, connect
from walnatsd_client._decorators import require, suppress
from walnatsd_client._delivery import Delivery, Reject, Retry, current_delivery
from walnatsd_client._errors import (
    AccessError,
    CapacityError,
    ConflictError,
    DeadLetterError,
    InvalidError,
    NoResponseError,
    UnavailableError,
    UnknownActorError,
    UnknownEventError,
    UnsupportedError,
    WalnatsdError,
)
from walnatsd_client._event import Event, EventWithResponse, Limits
from walnatsd_client._monitor import Feed, Seen
from walnatsd_client._serializers import MessagePack, Serializer
from walnatsd_client._sync import SyncConnection, connect_sync
from walnatsd_client._tls import Tls
from walnatsd_client._version import __version__
from walnatsd_client._webhook import asgi_app

__all__ = [
    "AccessError",
    "Actor",
    "Batch",
    "BatchActor",
    "Breaker",
    "CapacityError",
    "CloudEvent",
    "ConflictError",
    "Connection",
    "DeadLetterError",
    "Delivery",
    "Event",
    "EventWithResponse",
    "Feed",
    "InvalidError",
    "Limits",
    "MatchTime",
    "MessagePack",
    "NoResponseError",
    "OrderHeader",
    "RateLimit",
    "Receipt",
    "Registered",
    "Reject",
    "Retry",
    "RetryPolicy",
    "Seen",
    "Serializer",
    "SyncConnection",
    "Tls",
    "UnavailableError",
    "UnknownActorError",
    "UnknownEventError",
    "UnsupportedError",
    "WalnatsdError",
    "__version__",
    "asgi_app",
    "connect",
    "connect_sync",
    "current_delivery",
    "require",
    "suppress",
]
