"""Messages that the server hands over no more, because somebody limited the deliveries of a consumer.

An actor's consumer has no `max_deliver`: on interest retention a message that used it up stays stored for ever, and only
an advisory tells. Advisories are lost when nobody listens, so a stream keeps them until a sidecar of the actor has seen
to it. What helps was tried on nats-server 2.10 to 2.15: lifting the limit does not bring the message back, but an ack
subject that is put together by hand settles it.
"""

from dataclasses import dataclass

import orjson

from walnatsd.broker import own_streams
from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import NoRespondersError
from walnatsd.broker.inspection import stored_message
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.wire import to_ns
from walnatsd.model.message import Message

STREAM = "walnatsd-max-deliveries"
CONSUMER = "walnatsd"
SUBJECTS = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"
KEPT_S = 7 * 86400
MAX_ADVISORIES = 100_000
ACK_WAIT_S = 60
UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Advisory:
    """The server's word that it gives a message up."""

    stream: str
    consumer: str
    sequence: int
    """The message's place in the stream."""
    deliveries: int
    """How often it was handed over."""


def read_advisory(payload: bytes) -> Advisory:
    """Read an advisory.

    Raises:
        ValueError: It is none.
    """
    try:
        data = orjson.loads(payload)
        return Advisory(data["stream"], data["consumer"], int(data["stream_seq"]), int(data["deliveries"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no advisory of a maximum of deliveries: {error}") from None


async def register(jetstream: JetStream, *, replicas: int) -> None:
    """Create the stream that keeps the advisories, and the consumer that all sidecars share.

    Raises:
        Refusal: CONFLICT: there is another kind of stream of this name.
        BrokerError: NATS did not answer, or does not accept it.
    """
    await own_streams.register(
        jetstream,
        {
            "name": STREAM,
            "description": "Messages that the server gives up because somebody limited the deliveries of a consumer.",
            "subjects": [SUBJECTS],
            "retention": "workqueue",
            "max_age": to_ns(KEPT_S),
            "max_msgs": MAX_ADVISORIES,
            "discard": "old",
            "num_replicas": replicas,
        },
    )
    await own_streams.register_consumer(jetstream, STREAM, CONSUMER, ack_wait_ns=to_ns(ACK_WAIT_S))


async def stuck_message(jetstream: JetStream, advisory: Advisory, event: str) -> Message | None:
    """Read the message that an advisory is about, None where it is gone.

    Raises:
        BrokerError: NATS did not answer.
    """
    stored = await stored_message(jetstream, advisory.stream, {"seq": advisory.sequence})
    if stored is None:
        return None
    return Message(event, stored.payload, stored.headers, advisory.stream, stored.sequence, stored.stored_at)


async def lift(jetstream: JetStream, advisory: Advisory) -> bool:
    """Take the limit away; False where there is none any more.

    Raises:
        BrokerError: NATS did not answer, or does not accept it.
    """
    info = await jetstream.consumer(advisory.stream, advisory.consumer)
    if info is None or info["config"].get("max_deliver", UNLIMITED) == UNLIMITED:
        return False
    config = info["config"] | {"max_deliver": UNLIMITED}
    await jetstream.update_consumer(advisory.stream, advisory.consumer, config)
    return True


async def settle(connection: Connection, advisory: Advisory, timeout_s: float = 5.0) -> None:
    """Settle the message in its consumer, as who had it last would have done. Returns after the confirmation.

    Raises:
        BrokerError: NATS did not confirm it.
    """
    place = f"{advisory.stream}.{advisory.consumer}.{advisory.deliveries}.{advisory.sequence}"
    try:
        await connection.request(f"$JS.ACK.{place}.0.0.0", b"+ACK", timeout_s=timeout_s)
    except NoRespondersError:
        return  # the consumer has gone, and so has its hold on the message
