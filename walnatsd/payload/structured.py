"""CloudEvents 1.0, structured and batched mode: events as JSON (JSON event format)."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from walnatsd.model import headers
from walnatsd.model.message import Message
from walnatsd.payload import cloudevents

_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_EXTENSIONS = ("traceparent", "tracestate")  # the distributed tracing extension

_Parts = tuple[Sequence[tuple[str, str]], Sequence[tuple[str, str]]]
_NO_PARTS: _Parts = ((), ())


def batch(items: Iterable[tuple[Message, int]], identities: Iterable[str], *, source: str) -> bytes:
    """Write messages, with the numbers of their attempts and what identifies them, as one batch.

    Each event has the extensions `walnatssequence` and `walnatsattempt`, and `walnatstrace` and `walnatsreplay` where
    there is something to say. Headers that are neither CloudEvents attributes nor trace context have no place in it.
    """
    return orjson.dumps(
        [
            _event(message, identity, source, {"walnatssequence": message.sequence, "walnatsattempt": attempt})
            for (message, attempt), identity in zip(items, identities, strict=True)
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
    return orjson.dumps(_event(message, message.uid or id_, source, extensions))


def _event(message: Message, identity: str, source: str, extensions: Mapping[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {  # what every event has, then what the emitter gave, which wins, then what is ours
        "id": identity,
        "source": source,
        "type": message.event,
        "specversion": "1.0",
        "time": cloudevents.rfc3339(message.stored_at),
    }
    given = message.headers
    attributes, trace_context = _parts_of(tuple(given)) if given else _NO_PARTS
    for name, attribute in attributes:
        event[attribute] = cloudevents.decoded(cloudevents.encoded(given[name]))
    media_type = cloudevents.content_type(given) if given else headers.DEFAULT_CONTENT_TYPE
    event.update(extensions)
    event["datacontenttype"] = media_type
    for name, extension in trace_context:
        event[extension] = given[name]
    if (trace_id := message.trace_id) is not None:
        event["walnatstrace"] = trace_id
    if message.replay:
        event["walnatsreplay"] = message.replay
    if _is_json(media_type, message.payload):
        event["data"] = orjson.Fragment(message.payload)  # byte for byte: large numbers and double keys survive
    else:
        event["data_base64"] = base64.b64encode(message.payload).decode()
    return event


@lru_cache(maxsize=256)  # messages of an event mostly have headers of the same names
def _parts_of(names: tuple[str, ...]) -> _Parts:
    """Give which headers are attributes and which are trace context, each with its name in an event."""
    attributes = [(name, attribute) for name in names if (attribute := _attribute_of(name)) is not None]
    return attributes, [(name, lower) for name in names if (lower := name.lower()) in _EXTENSIONS]


def _attribute_of(header: str) -> str | None:
    """Give the attribute that a stored header stands for; None where it is none, or the format has no such name."""
    lower = headers.deliverable(header)
    if lower is None or not lower.startswith(cloudevents.PREFIX):
        return None
    attribute = lower.removeprefix(cloudevents.PREFIX)
    is_other = attribute in ("data", "database64", "datacontenttype")
    return attribute if _ATTRIBUTE.fullmatch(attribute) and not is_other else None


def _is_json(media_type: str, payload: bytes) -> bool:
    """Whether the payload stands in an event as it is, and not as base64 (JSON event format, section 3.1)."""
    if not _says_json(media_type):
        return False
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return True


@lru_cache(maxsize=256)
def _says_json(media_type: str) -> bool:
    return media_type.partition(";")[0].strip().lower().endswith(("/json", "+json"))
