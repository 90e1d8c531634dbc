"""The broker's own parts without a daemon around them, and the nats library's client beside them."""

import contextlib
from collections.abc import AsyncIterator

from nats import errors
from nats.aio.client import Client as PlainClient

from walnatsd.broker.client import Client
from walnatsd.broker.connection import Connection, connect
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.config.secrets import Secrets
from walnatsd.config.settings import Nats
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics


async def _ignore(_error: Exception) -> None:
    pass


@contextlib.asynccontextmanager
async def client(kind: type[PlainClient], url: str, **options: object) -> AsyncIterator[PlainClient]:
    """The library's client or our subclass of it; nobody watches over it."""
    made = kind()
    await made.connect(url, error_cb=_ignore, **({"reconnect_time_wait": 0.05} | options))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        if isinstance(made, Client):
            made.drop_socket()
        await made.close()


@contextlib.asynccontextmanager
async def ours(url: str, *, health: Health | None = None) -> AsyncIterator[Connection]:
    """Our connection, which connects in the background."""
    async with connect(
        Nats(servers=(url,)),
        Secrets({}),
        name="tests",
        health=health or Health(),
        metrics=Metrics(),
        end_within_s=lambda: 1.0,
    ) as made:
        yield made


async def hears_itself(made: PlainClient) -> bool:
    """Whether a message makes it to the server and back."""
    subscription = await made.subscribe("echo")
    with contextlib.suppress(errors.Error):
        await made.publish("echo", b"?")
        await subscription.next_msg(timeout=0.5)
        return True
    return False


async def answers(made: Connection) -> bool:
    """Whether JetStream answers over the connection."""
    with contextlib.suppress(BrokerError):
        return bool(await JetStream(made).request("INFO", timeout_s=0.5))
    return False
