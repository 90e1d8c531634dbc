"""Looking at streams and consumers, as they are in NATS."""

import base64
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from walnatsd.broker.errors import STREAM_NOT_FOUND, ApiError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.wire import Frame, from_ns

NO_MESSAGE = 10037


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """What the server says of a consumer."""

    name: str
    pending: int
    """Messages that were never handed over."""
    ack_pending: int
    """Messages that were handed over and are not settled."""
    redelivered: int
    """Of these, those that were handed over more than once."""
    waiting_pulls: int
    """Pull requests that wait for messages: 0 means that nobody serves it."""
    floor: int
    """All messages of the stream up to this sequence are settled."""
    created: str
    """When it was created; another time is another consumer."""
    delivered: int
    """The last sequence of the stream that was handed over."""
    deliveries: int
    """Hand-overs so far, repeated ones too."""
    paused_for_s: float
    """Seconds that it stays paused, 0 where it is not."""
    config: dict[str, Any]
    """As the server holds it."""

    @property
    def unsettled(self) -> int:
        """Messages that are not settled, handed over or not."""
        return self.pending + self.ack_pending


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the server says of a stream."""

    messages: int
    bytes: int
    first: int
    """Sequence of the first message."""
    first_at: float | None
    """When it was stored, in seconds since the epoch; None where there is no message."""
    ratio: float
    """The larger of the shares of its limits for messages and bytes that are used; 0 without limits."""


def stream_state(info: Mapping[str, Any]) -> StreamState:
    """Read the state of a stream from its info."""
    state, config = info["state"], info["config"]
    messages, size = state["messages"], state["bytes"]
    limits = ((messages, config.get("max_msgs", -1)), (size, config.get("max_bytes", -1)))
    return StreamState(
        messages=messages,
        bytes=size,
        first=state["first_seq"],
        first_at=_seconds(state["first_ts"]) if messages else None,
        ratio=max((used / limit for used, limit in limits if limit > 0), default=0.0),
    )


async def consumers(jetstream: JetStream, stream: str) -> list[ConsumerState] | None:
    """List a stream's consumers, None where there is no such stream.

    Raises:
        BrokerError: NATS did not answer.
    """
    found: list[ConsumerState] = []
    level = await jetstream.api_level()
    while True:
        try:
            page = await jetstream.request(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        except ApiError as error:
            if error.err_code == STREAM_NOT_FOUND:
                return None
            raise
        infos = page.get("consumers") or []
        found += [_state(info, level) for info in infos]
        if not infos or len(found) >= page.get("total", 0):
            return found


def _state(info: dict[str, Any], level: int) -> ConsumerState:
    config = dict(info.get("config", {}))
    if level:  # a list leaves out what each single info says: what the server can do
        config["metadata"] = (config.get("metadata") or {}) | {"_nats.level": str(level)}
    return ConsumerState(
        name=info["name"],
        pending=info.get("num_pending", 0),
        ack_pending=info.get("num_ack_pending", 0),
        redelivered=info.get("num_redelivered", 0),
        waiting_pulls=info.get("num_waiting", 0) + (1 if info.get("push_bound") else 0),
        floor=info.get("ack_floor", {}).get("stream_seq", 0),
        created=info.get("created", ""),
        delivered=info.get("delivered", {}).get("stream_seq", 0),
        deliveries=info.get("delivered", {}).get("consumer_seq", 0),
        paused_for_s=from_ns(info.get("pause_remaining", 0)) if info.get("paused") else 0.0,
        config=config,
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it."""

    subject: str
    sequence: int
    stored_at: float
    """Seconds since the epoch."""
    headers: dict[str, str]
    payload: bytes


async def stored_message(jetstream: JetStream, stream: str, which: Mapping[str, Any]) -> Stored | None:
    """Read a message, None where there is none.

    Args:
        jetstream: The API.
        stream: Where it is.
        which: `seq`; with `next_by_subj`, the first one from there on whose subject matches. Or `last_by_subj`.

    Raises:
        BrokerError: NATS did not answer.
    """
    try:
        answer = await jetstream.request(f"STREAM.MSG.GET.{stream}", which)
    except ApiError as error:
        if error.err_code in (NO_MESSAGE, STREAM_NOT_FOUND):
            return None
        raise
    found = answer["message"]
    return Stored(
        subject=found["subject"],
        sequence=found["seq"],
        stored_at=_seconds(found["time"]),
        headers=Frame("", "", b"", base64.b64decode(found.get("hdrs", ""))).headers(),
        payload=base64.b64decode(found.get("data", "")),
    )


def _seconds(time: str) -> float:
    """Read a time with nanoseconds, to the very number that the ack subject of a hand-over gives."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    seconds = int(dt.datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return from_ns(seconds * 1_000_000_000 + int(fraction.ljust(9, "0")))


async def stored_at(jetstream: JetStream, stream: str, subject: str, after: int) -> float | None:
    """Give when the first message behind a sequence was stored, in seconds since the epoch; None where there is none.

    Raises:
        BrokerError: NATS did not answer.
    """
    found = await stored_message(jetstream, stream, {"seq": after + 1, "next_by_subj": subject})
    return found.stored_at if found is not None else None


async def delete_consumer(jetstream: JetStream, stream: str, consumer: str) -> None:
    """Delete a consumer; the messages that only it had not settled go with it.

    Raises:
        ApiError: There is no such stream or consumer.
        BrokerError: NATS did not answer.
    """
    await jetstream.request(f"CONSUMER.DELETE.{stream}.{consumer}")


async def delete_stream(jetstream: JetStream, stream: str) -> None:
    """Delete a stream with all its messages and consumers. Raises as `delete_consumer`."""
    await jetstream.request(f"STREAM.DELETE.{stream}")


async def consumer_count(jetstream: JetStream, stream: str) -> int | None:
    """Count a stream's consumers, None where there is no such stream.

    Raises:
        BrokerError: NATS did not answer.
    """
    info = await jetstream.stream(stream)
    return None if info is None else int(info["state"]["consumer_count"])
