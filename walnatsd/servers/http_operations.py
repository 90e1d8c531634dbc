"""The calls of the HTTP address, section 4 of the contract."""

from collections.abc import Mapping

from walnatsd.api.events import MAX_BATCH_BYTES, MAX_BATCH_ITEMS
from walnatsd.emit.calls import DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S
from walnatsd.model.refusal import Reason
from walnatsd.payload.event_json import BATCH_TYPE, STRUCTURED_TYPE
from walnatsd.servers.operations import DURATION, EVENT, PAGE, Answer, Operation, Parameter, Schema

LARGEST_SEQUENCE = (1 << 64) - 1

_ANY: Schema = {"description": "Any bytes."}
_SEQUENCE: Schema = {"type": "integer", "minimum": 0, "maximum": LARGEST_SEQUENCE}
_UID: Schema = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[ -~]+$"}
_DURATION = "a number of seconds, or like 250ms, 30s, 5m, 2h, 7d"

_EMIT_PARAMETERS = (
    EVENT,
    Parameter(
        "uid",
        "query",
        "Deduplication id: within the event's `duplicate_window` one message of it is stored. Else `Idempotency-Key`, else "
        "`<ce-source> <ce-id>` where both are given, else a new one.",
        _UID,
    ),
    Parameter(
        "delay",
        "query",
        f"Hand it to actors only after this time: {_DURATION}. Not with `deliver_at`.",
        DURATION,
    ),
    Parameter(
        "deliver_at",
        "query",
        "Hand it to actors only at this time (RFC 3339).",
        {"type": "string", "format": "date-time"},
    ),
    Parameter("trace_id", "query", "Handed to the actors."),
    Parameter(
        "expected_last_sequence",
        "query",
        "Store it only if this is the sequence of the stream's last message; otherwise `SEQUENCE`.",
        _SEQUENCE,
    ),
    Parameter("Idempotency-Key", "header", "The uid, where `uid` is not given; quotes around it are removed."),
    Parameter("traceparent", "header", "W3C trace context; handed to the actors."),
    Parameter("tracestate", "header", "W3C trace context; handed to the actors."),
    Parameter("baggage", "header", "W3C baggage; handed to the actors."),
    *(
        Parameter(f"ce-{name}", "header", f"CloudEvents binary mode: the attribute {name}; percent-encoded.")
        for name in ("id", "source", "type", "specversion", "time", "subject", "dataschema")
    ),
)
_HEADERS = (
    "The body is the payload, with its `Content-Type`. Headers of the message are `ce-*` (CloudEvents binary mode, "
    "extensions too), `traceparent`, `tracestate`, `baggage`, and any other as `walnats-header-<name>`. With "
    f"`{STRUCTURED_TYPE}` the body is a CloudEvent that is taken apart into the same."
)
_EMIT_BODY: Mapping[str, Schema] = {"*/*": _ANY, STRUCTURED_TYPE: {"$ref": "#/components/schemas/CloudEvent"}}
_EMIT_REASONS = (
    Reason.UNKNOWN_EVENT,
    Reason.INVALID_NAME,
    Reason.INVALID_UID,
    Reason.INVALID_TIME,
    Reason.SCHEMA,
    Reason.TOO_LARGE,
    Reason.NO_ACTORS,
    Reason.EVENT_FULL,
    Reason.BUSY,
    Reason.SEQUENCE,
    Reason.NATS_UNAVAILABLE,
    Reason.NATS_ERROR,
    Reason.SERVER_VERSION,
)
_SCHEDULED_REASONS = (
    Reason.UNKNOWN_EVENT,
    Reason.INVALID_NAME,
    Reason.NATS_UNAVAILABLE,
    Reason.NATS_ERROR,
    Reason.SERVER_VERSION,
)
_RECEIPT: Schema = {"$ref": "#/components/schemas/Receipt"}

EMIT = Operation(
    name="emit",
    method="POST",
    path="/v1/events/{event}",
    summary="Store one message",
    description=_HEADERS,
    parameters=_EMIT_PARAMETERS,
    body=_EMIT_BODY,
    answers={
        201: Answer("It is stored.", schema=_RECEIPT),
        200: Answer("A message of this uid was stored before; nothing was stored now.", schema=_RECEIPT),
        202: Answer("It will be stored: it is scheduled, or on local disk while NATS is away.", schema=_RECEIPT),
    },
    reasons=_EMIT_REASONS,
    is_frequent=True,
)
EMIT_BATCH = Operation(
    name="emit-batch",
    method="POST",
    path="/v1/events/{event}/batch",
    summary="Store many messages",
    description=f"One result per item, in order; the good ones are stored, whatever the others are. At most "
    f"{MAX_BATCH_ITEMS} items and {MAX_BATCH_BYTES >> 20} MiB.",
    parameters=(EVENT,),
    body={
        BATCH_TYPE: {"type": "array", "items": {"$ref": "#/components/schemas/CloudEvent"}, "maxItems": MAX_BATCH_ITEMS}
    },
    answers={200: Answer("What became of each item.", schema={"$ref": "#/components/schemas/BatchResults"})},
    reasons=(Reason.TOO_LARGE,),
)
REQUEST = Operation(
    name="request",
    method="POST",
    path="/v1/events/{event}/request",
    summary="Store one message and wait for what the first responding actor answers",
    description=_HEADERS,
    parameters=(
        *_EMIT_PARAMETERS,
        Parameter(
            "timeout",
            "query",
            f"How long storing and waiting may take: {_DURATION}. {DEFAULT_TIMEOUT_S:g} s where not given, at most "
            f"{LONGEST_TIMEOUT_S:g} s.",
            DURATION,
        ),
    ),
    body=_EMIT_BODY,
    answers={
        200: Answer(
            "The answer's body and content type.",
            media_type="*/*",
            schema=_ANY,
            headers={"walnats-uid": "Of the message.", "walnats-actor": "Who answered, where that is known."},
        )
    },
    reasons=(
        *_EMIT_REASONS,
        Reason.DUPLICATE,
        Reason.NO_RESPONSE,
        Reason.DEAD_LETTER,
        Reason.RESPONSE_TOO_LARGE,
        Reason.STOPPING,
    ),
)
LIST_SCHEDULED = Operation(
    name="list-scheduled",
    method="GET",
    path="/v1/events/{event}/scheduled",
    summary="List the delayed emits of an event that are not due yet",
    description="In the order in which they were emitted; first come those that are due and can't be stored.",
    parameters=(EVENT, *PAGE),
    answers={200: Answer("A page of them.", schema={"$ref": "#/components/schemas/ScheduledPage"})},
    reasons=_SCHEDULED_REASONS,
)
CANCEL_SCHEDULED = Operation(
    name="cancel-scheduled",
    method="DELETE",
    path="/v1/events/{event}/scheduled/{uid}",
    summary="Cancel a delayed emit",
    description="One that is due is on its way, and can't be cancelled.",
    parameters=(EVENT, Parameter("uid", "path", "Its uid.", _UID)),
    answers={
        200: Answer(
            "Whether there was one and it is cancelled now.",
            schema={
                "type": "object",
                "properties": {"cancelled": {"type": "boolean"}},
                "required": ["cancelled"],
                "additionalProperties": False,
            },
        )
    },
    reasons=(*_SCHEDULED_REASONS, Reason.INVALID_UID),
)
MONITOR = Operation(
    name="monitor",
    method="GET",
    path="/v1/events/{event}/monitor",
    summary="Watch what is emitted, as it is emitted",
    description="Server-sent events: each message is a CloudEvent in JSON (event `message`), with the extensions "
    "`walnatsevent`, `walnatsuid`, `walnatstrace` and `walnatscodecerror`. `gap` tells that NATS was away, `end` why the feed ends "
    "(problem details; `NOT_READING` for a watcher that is too slow). The response begins when everything that is published "
    "from then on is seen; nothing is stored for it.",
    parameters=(EVENT,),
    answers={
        200: Answer("The feed, until either side ends it.", media_type="text/event-stream", schema={"type": "string"})
    },
    reasons=(Reason.UNKNOWN_EVENT, Reason.INVALID_NAME, Reason.BUSY, Reason.NATS_UNAVAILABLE, Reason.STOPPING),
)

_TEXT: Schema = {"type": "string", "minLength": 1}
SCHEMAS: Mapping[str, Schema] = {
    "Receipt": {
        "type": "object",
        "description": "What became of an emit.",
        "properties": {
            "uid": _UID,
            "stream": {"type": "string", "description": "The JetStream stream of the event."},
            "sequence": {
                **_SEQUENCE,
                "type": ["integer", "null"],
                "description": "Its place in the stream; null where it has none yet, scheduled or spooled.",
            },
            "duplicate": {"type": "boolean", "description": "A message of this uid was stored before."},
            "scheduled": {"type": "boolean", "description": "It will be stored when its time has come."},
            "spooled": {"type": "boolean", "description": "It is on local disk until NATS is back."},
        },
        "required": ["uid", "stream", "sequence", "duplicate", "scheduled", "spooled"],
        "additionalProperties": False,
    },
    "BatchResults": {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "uid": {"type": "string"},
                        "ok": _RECEIPT,
                        "error": {"$ref": "#/components/schemas/Problem"},
                    },
                    "required": ["uid"],
                    "oneOf": [{"required": ["ok"]}, {"required": ["error"]}],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["items"],
        "additionalProperties": False,
    },
    "ScheduledPage": {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "event": {"type": "string"},
                        "uid": _UID,
                        "deliver_at": {
                            "type": "string",
                            "format": "date-time",
                            "description": "When it is due; past where it can't be stored.",
                        },
                    },
                    "required": ["event", "uid", "deliver_at"],
                    "additionalProperties": False,
                },
            },
            "next_cursor": {"type": ["string", "null"], "description": "Where to go on; null on the last page."},
        },
        "required": ["items", "next_cursor"],
        "additionalProperties": False,
    },
    "CloudEvent": {
        "type": "object",
        "description": "A CloudEvent 1.0 in JSON.",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _TEXT,
            "source": _TEXT,
            "type": _TEXT,
            "datacontenttype": {"type": ["string", "null"]},
            "data": {},
            "data_base64": {"type": "string", "contentEncoding": "base64"},
        },
        "required": ["specversion", "id", "source", "type"],
        "propertyNames": {"anyOf": [{"pattern": "^[a-z0-9]+$"}, {"const": "data_base64"}]},
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
        "not": {"required": ["data", "data_base64"]},
    },
}
