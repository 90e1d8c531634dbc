"""Messages in walnatsd's own streams: a message of an event, with what the server would act on set aside.

The headers of an event's message would steer the server if they were published again: `Nats-Msg-Id` would replace ours,
`Nats-Expected-*`, `Nats-TTL` and `Nats-Rollup` are refused. They travel under other names and are put back on reading.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from walnatsd.broker.wire import AckSubject, Frame
from walnatsd.model.message import Message

OWN = "walnatsd-"
"""What the names of our own headers begin with. Nobody else may set them."""
ORIGINAL = "walnatsd-original-"
EVENT = "walnatsd-event"
EVENT_STREAM = "walnatsd-stream"
SEQUENCE = "walnatsd-sequence"
STORED_AT = "walnatsd-stored-at"
ATTEMPTS = "walnatsd-attempts"
HAND_OVERS = "walnatsd-hand-overs"
REPLAY = "walnatsd-replay"
DEAD_LETTER = "walnatsd-dead-letter"
DUE_AT = "walnatsd-due-at"

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class Past:
    """What became of a message before it came to the stream that it is handed over from."""

    attempts: int = 0
    """Attempts that count."""
    hand_overs: int = 0
    """Hand-overs, whether there was an attempt or not."""
    dead_letter: int = 0
    """Place of the dead letter that this is a replay of in the dead-letter stream; 0 where it is none."""


NO_PAST = Past()


def set_aside(header: Mapping[str, str]) -> dict[str, str]:
    """Give the headers of a message under names that the server does not act on."""
    return {
        f"{ORIGINAL}{name}" if name.lower().startswith("nats-") else name: value
        for name, value in header.items()
        if not name.lower().startswith(OWN)
    }


def put_back(header: Mapping[str, str]) -> dict[str, str]:
    """Undo `set_aside`: what the server and walnatsd added goes."""
    restored = {}
    for name, value in header.items():
        if name.startswith(ORIGINAL):
            restored[name[len(ORIGINAL) :]] = value
        elif not name.lower().startswith(("nats-", OWN)):
            restored[name] = value
    return restored


def enclose(message: Message, past: Past) -> dict[str, str]:
    """Give the headers under which a message goes on the route of its actor."""
    header = set_aside(message.headers) | {
        EVENT: message.event,
        EVENT_STREAM: message.stream,
        SEQUENCE: str(message.sequence),
        STORED_AT: repr(message.stored_at),
        ATTEMPTS: str(past.attempts),
        HAND_OVERS: str(past.hand_overs),
    }
    if message.replay:
        header[REPLAY] = str(message.replay)
    if past.dead_letter:
        header[DEAD_LETTER] = str(past.dead_letter)
    return header


def open_up(frame: Frame, facts: AckSubject, *, event: str, stream: str) -> tuple[Message, Past]:
    """Read what `enclose` wrote.

    What is missing or makes no sense is taken from the hand-over, so a message that somebody put on the route by hand is
    handled as well.

    Args:
        frame: What was handed over.
        facts: What its ack subject tells.
        event: The event of the actor whose route it is.
        stream: The stream of the event.
    """
    header = frame.headers()
    message = Message(
        event=event,
        payload=frame.payload,
        headers=put_back(header),
        stream=stream,
        sequence=_number(header, SEQUENCE, int) or facts.sequence,
        stored_at=_number(header, STORED_AT, float) or facts.stored_at,
        replay=_number(header, REPLAY, int),
    )
    past = Past(_number(header, ATTEMPTS, int), _number(header, HAND_OVERS, int), _number(header, DEAD_LETTER, int))
    return message, past


def _number(header: Mapping[str, str], name: str, kind: Callable[[str], T]) -> T:
    """Read a number that is not below zero; zero where there is none."""
    with contextlib.suppress(KeyError, ValueError):
        number = kind(header[name])
        if 0 <= number < math.inf:
            return number
    return kind("0")
