"""CloudEvents 1.0, structured and batched mode: events as JSON (JSON event format)."""

import base64
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from walnatsd.model.message import Message
from walnatsd.payload import cloudevents

_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_EXTENSIONS = ("traceparent", "tracestate")  # the distributed tracing extension


def batch(items: Iterable[tuple[Message, int]], *, source: str) -> bytes:
    """Write messages and the numbers of their attempts as one batch.

    Each event has the extensions `walnatssequence` and `walnatsattempt`, and `walnatstrace` and `walnatsreplay` where
    there is something to say. Headers that are neither CloudEvents attributes nor trace context have no place in it.
    """
    return orjson.dumps(
        [
            _event(message, source, {"walnatssequence": message.sequence, "walnatsattempt": attempt})
            for message, attempt in items
        ]
    )


def seen(message: Message, *, id_: str, source: str, codec_error: str) -> bytes:
    """Write a message of a live feed as one event.

    It has the extension `walnatsevent`, and `walnatsuid`, `walnatstrace` and `walnatscodecerror` where there is something
    to say.

    Args:
        message: As it was published.
        id_: Stands for the `id` of one that has neither that nor a uid.
        source: The `source`, where the emitter gave none.
        codec_error: Why the payload is as it is stored; empty where the codecs could be undone.
    """
    extensions: dict[str, Any] = {"walnatsevent": message.event}
    if message.uid is not None:
        extensions["walnatsuid"] = message.uid
    if codec_error:
        extensions["walnatscodecerror"] = codec_error
    event = _event(message, source, extensions)
    if message.uid is None and not any(name.lower() == "ce-id" for name in message.headers):
        event["id"] = id_  # the place in the stream would be it, and there is none yet
    return orjson.dumps(event)


def _event(message: Message, source: str, extensions: Mapping[str, Any]) -> dict[str, Any]:
    event = {
        attribute: cloudevents.decoded(value)
        for name, value in cloudevents.attributes(message, source=source).items()
        if (attribute := _attribute_of(name)) is not None
    }
    media_type = cloudevents.content_type(message.headers)
    more: dict[str, Any] = {**extensions, "datacontenttype": media_type}
    for name, value in message.headers.items():
        if name.lower() in _EXTENSIONS:
            more[name.lower()] = value
    if message.trace_id is not None:
        more["walnatstrace"] = message.trace_id
    if message.replay:
        more["walnatsreplay"] = message.replay
    return event | more | _data(message.payload, media_type)


@lru_cache(maxsize=256)  # few in practice; an emitter may make long ones up
def _attribute_of(header: str) -> str | None:
    """Give the attribute that a header stands for; None where the format has no such name."""
    attribute = header.removeprefix(cloudevents.PREFIX)
    return attribute if _ATTRIBUTE.fullmatch(attribute) and attribute not in ("data", "database64") else None


def _data(payload: bytes, media_type: str) -> dict[str, Any]:
    """Give the payload as it is where it is JSON, else as base64 (JSON event format, section 3.1)."""
    bare = media_type.partition(";")[0].strip().lower()
    if bare.endswith(("/json", "+json")):
        try:
            orjson.loads(payload)
        except orjson.JSONDecodeError:
            pass
        else:
            return {"data": orjson.Fragment(payload)}  # byte for byte: large numbers and double keys survive
    return {"data_base64": base64.b64encode(payload).decode()}
