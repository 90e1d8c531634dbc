"""Names of events and actors, and what they are called in NATS."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

MAX_NAME_LENGTH = 255
RESERVED_PREFIX = "walnatsd"

_EVENT_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ACTOR_NAME = re.compile(r"[A-Za-z0-9_-]+")


def check_event_name(name: str) -> str:
    """Return the name if an event may be called so.

    Raises:
        ValueError: What is wrong with it, in words.
    """
    if not _EVENT_NAME.fullmatch(name):
        raise ValueError("an event name is letters, digits, - and _, in parts joined by single dots, like parcel-sent")
    return _check_length_and_prefix(name)


def check_actor_name(name: str) -> str:
    """Return the name if an actor may be called so.

    Raises:
        ValueError: What is wrong with it, in words.
    """
    if not _ACTOR_NAME.fullmatch(name):
        raise ValueError("an actor name is letters, digits, - and _, like send-email")
    return _check_length_and_prefix(name)


def _check_length_and_prefix(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"a name has at most {MAX_NAME_LENGTH} characters, this one has {len(name)}")
    if name.startswith(RESERVED_PREFIX):
        raise ValueError(f"names that begin with {RESERVED_PREFIX} are reserved")
    return name


def stream_name(event: str) -> str:
    """Name of the JetStream stream that holds an event, as the walnats library maps it."""
    return event.replace(".", "-")


EventName = Annotated[
    str, AfterValidator(check_event_name), WithJsonSchema({"type": "string", "pattern": f"^{_EVENT_NAME.pattern}$"})
]
ActorName = Annotated[
    str, AfterValidator(check_actor_name), WithJsonSchema({"type": "string", "pattern": f"^{_ACTOR_NAME.pattern}$"})
]
