"""CloudEvents 1.0 attributes of a message, as headers."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from urllib.parse import quote

_NAME = re.compile(r"[a-z0-9]+")
_PREFIX = "ce-"
# HTTP binding 1.0.2, section 3.1.3.2, which the NATS binding follows: all that is visible in ASCII but " and %
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """What a message says about itself, in the words of CloudEvents 1.0.

    ```python
    meta = CloudEvent(id="7", source="/warehouse", type="parcel-sent", subject="parcel 7")
    await conn.emit(PARCEL_SENT, parcel, meta=meta)
    ```

    Without a uid, `source` and `id` identify the message: it is stored once within the duplicate window.

    Raises:
        ValueError: A required attribute is empty, `time` has no time zone, or an extension has a name that CloudEvents
            doesn't allow or that is an attribute here.
    """

    id: str
    """Unique among all that `source` emits."""
    source: str
    """Who emits it, as a URI reference like `/warehouse`."""
    type: str
    """What kind of fact it is; the name of the event is a good choice."""
    specversion: str = field(default="1.0", kw_only=True)
    """Version of CloudEvents."""
    datacontenttype: str | None = field(default=None, kw_only=True)
    """Media type of the payload, where it is another one than the event's schema says."""
    dataschema: str | None = field(default=None, kw_only=True)
    """URI of the payload's schema."""
    subject: str | None = field(default=None, kw_only=True)
    """What it is about, within `source`."""
    time: datetime | None = field(default=None, kw_only=True)
    """When it happened, with a time zone."""
    dataref: str | None = field(default=None, kw_only=True)
    """Where the payload can be found."""
    partitionkey: str | None = field(default=None, kw_only=True)
    """What it belongs to. Actors may say `order_by=OrderHeader("ce-partitionkey")`."""
    sampledrate: int | None = field(default=None, kw_only=True)
    """How many such facts this one stands for."""
    sequence: str | None = field(default=None, kw_only=True)
    """Its place among those of `source`."""
    traceparent: str | None = field(default=None, kw_only=True)
    """Trace context of whoever made it, as an attribute; the one of this call is the header `traceparent`."""
    tracestate: str | None = field(default=None, kw_only=True)
    """The same for `tracestate`."""
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict, kw_only=True, hash=False)
    """Other attributes. Names are lower-case letters and digits."""

    def __post_init__(self) -> None:
        for name in ("id", "source", "type", "specversion"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        if self.time is not None and self.time.utcoffset() is None:
            raise ValueError("time needs a time zone")
        known = {each.name for each in fields(self)}
        for name in self.extensions:
            if not _NAME.fullmatch(name) or name == "data":
                raise ValueError(f"{name!r} is no name of an extension; use lower-case letters and digits")
            if name in known:
                raise ValueError(f"{name} is an attribute of CloudEvent; give it as such")

    def headers(self) -> dict[str, str]:
        """Write the attributes as headers, `ce-` and the name, percent-encoded as the NATS binding says."""
        return {_PREFIX + name: quote(_text(value), safe=_PLAIN) for name, value in self._attributes()}

    def _attributes(self) -> Iterator[tuple[str, str | int | bool | datetime]]:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "extensions" and value is not None:
                yield each.name, value
        yield from self.extensions.items()


def _text(value: str | float | bool | datetime) -> str:
    """Write a value as CloudEvents, section 3.1 (type system), says."""
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    return str(value)
