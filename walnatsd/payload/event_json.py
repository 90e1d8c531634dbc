"""CloudEvents that come in as JSON (JSON event format 1.0.2): structured mode, and batches of it."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from walnatsd.model.headers import DEFAULT_CONTENT_TYPE
from walnatsd.payload.strict_json import refuse_constant

STRUCTURED_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"

_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_REQUIRED = ("id", "source", "type")
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What stands in a header as it is; everything else is percent-encoded (HTTP binding, section 3.1.3.2)."""

_MAX_DIGITS = 18
"""Whole numbers of so many characters fit into 64 bits, and orjson writes no larger ones."""


@dataclass(frozen=True, slots=True)
class JsonEvent:
    """An event taken apart: what becomes headers, and the payload."""

    headers: dict[str, str]
    """`ce-<attribute>`, percent-encoded."""
    content_type: str
    payload: bytes


def parse(body: bytes) -> Any:
    """Decode JSON, with numbers that Python would write otherwise as fragments of what stood there.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(body, parse_float=orjson.Fragment, parse_int=_whole, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole(digits: str) -> int | orjson.Fragment:
    return int(digits) if len(digits) <= _MAX_DIGITS and digits != "-0" else orjson.Fragment(digits)


def take_apart(event: object) -> JsonEvent:
    """Turn a decoded CloudEvent into headers and payload, as binary mode has them.

    Raises:
        ValueError: It is no CloudEvent; in words.
    """
    if not isinstance(event, dict):
        raise ValueError("a CloudEvent is a JSON object")  # noqa: TRY004 - one error for all that is wrong
    if event.get("specversion") != "1.0":
        raise ValueError(f"specversion is '1.0', not {str(event.get('specversion'))[:50]!r}")
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise ValueError(f"{name} is required, and text")
    content_type = event.get("datacontenttype")
    if content_type is not None and not isinstance(content_type, str):
        raise ValueError("datacontenttype is text")
    headers = {
        f"ce-{name}": quote(_text(name, value), safe=_PLAIN)
        for name, value in event.items()
        if name not in ("data", "data_base64", "datacontenttype") and value is not None
    }
    payload = _payload(event, content_type or DEFAULT_CONTENT_TYPE)
    return JsonEvent(headers, content_type or DEFAULT_CONTENT_TYPE, payload)


def _text(name: str, value: object) -> str:
    if not _ATTRIBUTE.fullmatch(name):
        raise ValueError(f"the attribute name {name[:50]!r} is not made of lower-case letters and digits")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise ValueError(f"the attribute {name} is text, a whole number or a boolean")


def _payload(event: dict[str, Any], content_type: str) -> bytes:
    if "data_base64" in event:
        if "data" in event:
            raise ValueError("data and data_base64 exclude each other")
        try:
            return base64.b64decode(event["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ValueError("data_base64 is no base64") from None
    if "data" not in event:
        return b""
    bare = content_type.partition(";")[0].strip().lower()
    if isinstance(event["data"], str) and not bare.endswith(("/json", "+json")):
        return str(event["data"]).encode()  # section 3.1.1: text of another type stands there as a JSON string
    try:
        return orjson.dumps(event["data"])
    except orjson.JSONEncodeError as error:  # half a surrogate pair, or more than 254 levels
        raise ValueError(f"data can't be stored as JSON: {error}") from None
