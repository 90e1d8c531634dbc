"""Dead letters: stored first, and only then is the message terminated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.envelope import set_aside
from walnatsd.broker.errors import ApiError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.publisher import Publisher
from walnatsd.broker.wire import head_of, to_ns
from walnatsd.config.settings import DeadLetters as Settings
from walnatsd.model import headers
from walnatsd.model.message import Message
from walnatsd.model.text import one_line
from walnatsd.payload.cloudevents import rfc3339

STREAM = "walnatsd-dead-letters"
PREFIX = "walnatsd.dead-letter."
OWN = "walnats-dead-letter-"
"""What the names of our own headers begin with; the message's of these names do not stay."""
HISTORY = f"{OWN}history"
TRUNCATED = f"{OWN}truncated"
STORE_BUDGET_S = 15.0
MAX_HISTORY_LENGTH = 24 * 1024
"""All headers together have 64 KiB in JetStream."""
MAX_UID_LENGTH = 1024
MAX_HEAD_BYTES = 65_535
"""JetStream stores no longer header block (error 10097)."""
MARK_BYTES = 64
"""Room for the header that says what was cut off."""

_NO_STORAGE = frozenset({10023, 10028, 10047})
_SMALLER_BYTES = (1 << 30, 128 << 20, 16 << 20)

_log = structlog.get_logger("walnatsd.dead_letters")


@dataclass(frozen=True, slots=True)
class Death:
    """Why and when an actor gave a message up."""

    actor: str
    reason: str
    status: int | None
    attempts: int
    at: float
    """Seconds since the epoch of the last attempt."""
    history: Mapping[str, Any] = field(default_factory=dict)
    """The attempts that this sidecar saw, and whether these are all."""


class DeadLetters:
    """The dead-letter stream. When it is full or away, nothing is terminated: `store` raises."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher

    async def store(self, message: Message, death: Death) -> None:
        """Store a dead letter; a duplicate counts as stored.

        Raises:
            Refusal: It is not stored; the message must not be terminated.
        """
        header, payload = fit(dead_letter_headers(message, death), message.payload, self._connection.max_payload)
        await self._publisher.publish(
            f"{PREFIX}{message.stream}.{death.actor}", payload, header, budget_s=STORE_BUDGET_S
        )


def dead_letter_uid(message: Message, actor: str, replay: int) -> str:
    """Give the `Nats-Msg-Id` of the dead letter of a message that died as this replay of it, 0 for none."""
    return f"dlq:{message.stream}:{actor}:{message.sequence}:{replay}"


def dead_letter_headers(message: Message, death: Death) -> dict[str, str]:
    """Give the headers of a dead letter: the message's, and what became of it.

    `Nats-*` are renamed, for the server would act on them (`Nats-Expected-*`, `Nats-TTL`, `Nats-Rollup` are refused).
    """
    header = {name: value for name, value in set_aside(message.headers).items() if not name.lower().startswith(OWN)}
    header |= {
        headers.MESSAGE_ID: dead_letter_uid(message, death.actor, message.replay),
        f"{OWN}reason": one_line(death.reason),
        f"{OWN}status": str(death.status or ""),
        f"{OWN}attempts": str(death.attempts),
        f"{OWN}uid": (message.uid or "")[:MAX_UID_LENGTH],
        f"{OWN}stored-at": rfc3339(message.stored_at),
        f"{OWN}last-attempt-at": rfc3339(death.at),
        f"{OWN}stream": message.stream,
        f"{OWN}sequence": str(message.sequence),
        f"{OWN}event": message.event,
        f"{OWN}actor": death.actor,
        HISTORY: history_json(death.history),
    }
    return header


def history_json(history: Mapping[str, Any]) -> str:
    """Write the history in ASCII. Where it is long, the first attempts are left out, and it says that it is incomplete."""
    text = _dump(history)
    excess, attempts = len(text) - MAX_HISTORY_LENGTH, list(history.get("attempts", ()))
    if excess <= 0:
        return text
    excess += len("false")
    while excess > 0 and attempts:
        excess -= len(_dump(attempts.pop(0))) + 1
    return _dump({**history, "complete": False, "attempts": attempts})


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def fit(header: dict[str, str], payload: bytes, max_payload: int) -> tuple[dict[str, str], bytes]:
    """Shorten a dead letter that the server would not take, and mark it as truncated.

    The history goes first, then the longest of the message's headers until they fit, then the end of the payload.
    """
    size = len(head_of(header))
    if size <= MAX_HEAD_BYTES and size + len(payload) <= max_payload:
        return header, payload
    kept, gone, limit = dict(header), [], min(MAX_HEAD_BYTES, max_payload) - MARK_BYTES
    lines = {name: len(f"{name}: {value}\r\n".encode()) for name, value in header.items()}
    if HISTORY in kept:
        size -= lines[HISTORY]
        del kept[HISTORY]
        gone.append("history")
    for name in sorted(kept, key=lambda name: lines[name], reverse=True):
        if size <= limit:
            break
        if name != headers.MESSAGE_ID and not name.startswith(OWN):
            size -= lines[name]
            del kept[name]
            gone.append("headers")
    if size + MARK_BYTES + len(payload) > max_payload:
        payload = payload[: max(0, max_payload - size - MARK_BYTES)]
        gone.append("payload")
    return kept | {TRUNCATED: ", ".join(dict.fromkeys(gone))}, payload


async def register_stream(jetstream: JetStream, settings: Settings, *, replicas: int) -> None:
    """Create the dead-letter stream, or update what differs.

    Raises:
        ApiError: The server does not accept it.
        BrokerError: NATS did not answer.
    """
    wanted = {
        "max_age": to_ns(settings.age),
        "max_bytes": settings.bytes,
        "num_replicas": replicas,
    }
    info = await jetstream.stream(STREAM)
    if info is None:
        config = {
            "name": STREAM,
            "subjects": [f"{PREFIX}>"],
            "retention": "limits",
            "discard": "new",  # a full stream must not drop dead letters: messages wait instead
            "duplicate_window": 120_000_000_000,
            "description": "Messages that an actor gave up on.",
            **wanted,
        }
        await _create(jetstream, config, shrink="bytes" not in settings.model_fields_set)
        return
    present = info["config"]
    declared = {
        "max_age": "age" in settings.model_fields_set,
        "max_bytes": "bytes" in settings.model_fields_set and settings.bytes >= info["state"]["bytes"],
        "num_replicas": replicas > present.get("num_replicas", 1),
    }
    changes = {name: wanted[name] for name, may in declared.items() if may and present.get(name) != wanted[name]}
    if changes:
        await jetstream.request(f"STREAM.UPDATE.{STREAM}", present | changes)


async def _create(jetstream: JetStream, config: dict[str, object], *, shrink: bool) -> None:
    """Create the stream. The server reserves `max_bytes`; where the default does not fit, a smaller one will do."""
    try:
        await jetstream.request(f"STREAM.CREATE.{STREAM}", config)
    except ApiError as error:
        if error.err_code not in _NO_STORAGE:
            raise
        if not shrink:
            raise ApiError(
                error.code, error.err_code, f"dead_letters.bytes is more than the server has left: {error.description}"
            ) from None
    else:
        return
    for size in _SMALLER_BYTES:
        try:
            await jetstream.request(f"STREAM.CREATE.{STREAM}", config | {"max_bytes": size})
        except ApiError as error:
            if error.err_code not in _NO_STORAGE or size == _SMALLER_BYTES[-1]:
                raise
        else:
            _log.warning("the server has little storage left; the dead-letter stream is smaller than usual", bytes=size)
            return
