"""The calls of the admin address and of the monitoring address, section 4 of the contract."""

from collections.abc import Mapping

from walnatsd.model.gate_state import GateState
from walnatsd.model.refusal import Reason
from walnatsd.observe.metrics import CONTENT_TYPE
from walnatsd.servers.operations import ACTOR_NAME, EVENT, EVENT_NAME, PAGE, Answer, Operation, Parameter, Schema

_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_NUMBER: Schema = {"type": "integer", "minimum": 0}
_MAYBE_NUMBER: Schema = {"type": ["integer", "null"], "minimum": 0}
_MAYBE_SECONDS: Schema = {"type": ["number", "null"], "minimum": 0}
_YES_OR_NO: Schema = {"type": "boolean"}
_NAMES: Schema = {"type": "array", "items": _TEXT}

_ACTOR = Parameter("actor", "path", "The actor's name.", ACTOR_NAME)
_SEQUENCE = Parameter(
    "sequence", "path", "The dead letter's number in the dead-letter stream.", {"type": "integer", "minimum": 1}
)
_OF_EVENT = Parameter("event", "query", "Only those of this event.", EVENT_NAME)
_OF_ACTOR = Parameter("actor", "query", "Only those of this actor.", ACTOR_NAME)


def _object(properties: Mapping[str, Schema], *, description: str = "", optional: tuple[str, ...] = ()) -> Schema:
    """Write the schema of an object whose keys are all there, but for the optional ones, and no others."""
    schema: dict[str, object] = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
    return schema | ({"description": description} if description else {})


def _page_of(name: str) -> Schema:
    items: Schema = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}
    return _object({"items": items, "next_cursor": _MAYBE_TEXT})


# ---- health and metrics

LIVEZ = Operation(
    name="livez",
    method="GET",
    path="/livez",
    summary="Whether the daemon is alive",
    answers={200: Answer("It is.", schema=_object({"status": {"const": "alive"}}))},
    for_probes=True,
)
_READINESS = _object(
    {"status": {"enum": ["ready", "not ready"]}, "problems": {"type": "object", "additionalProperties": _TEXT}},
    description="What is wrong, by the part of the daemon that has the problem.",
)
READYZ = Operation(
    name="readyz",
    method="GET",
    path="/readyz",
    summary="Whether everything is there that the daemon needs",
    answers={
        200: Answer("Everything is there.", schema=_READINESS),
        503: Answer("NATS is away, something declared is missing, or the daemon is stopping.", schema=_READINESS),
    },
    for_probes=True,
)
METRICS = Operation(
    name="metrics",
    method="GET",
    path="/metrics",
    summary="Metrics in the Prometheus text format",
    answers={200: Answer("The metrics.", media_type=CONTENT_TYPE.partition(";")[0], schema=_TEXT)},
    for_probes=True,
)

# ---- events and actors

_NATS = (Reason.NATS_UNAVAILABLE, Reason.NATS_ERROR)
_NAMED = (Reason.INVALID_NAME, *_NATS)

LIST_EVENTS = Operation(
    name="list-events",
    method="GET",
    path="/admin/v1/events",
    summary="The declared events, by name",
    parameters=PAGE,
    answers={200: Answer("A page of them.", schema=_page_of("Event"))},
    reasons=_NATS,
)
DELETE_EVENT = Operation(
    name="delete-event",
    method="DELETE",
    path="/admin/v1/events/{event}",
    summary="Delete an event's stream, with all its messages and actors",
    parameters=(EVENT, Parameter("confirm", "query", "The event's name once more.", required=True)),
    answers={204: Answer("It is deleted.")},
    reasons=(Reason.CONFLICT, Reason.UNKNOWN_EVENT, *_NAMED),
)
LIST_ACTORS = Operation(
    name="list-actors",
    method="GET",
    path="/admin/v1/actors",
    summary="The actors of this sidecar, by event and name",
    parameters=PAGE,
    answers={200: Answer("A page of them.", schema=_page_of("Actor"))},
    reasons=_NATS,
)
_ONE_ACTOR = "/admin/v1/actors/{event}/{actor}"
_PAUSE = _object(
    {
        "paused": _YES_OR_NO,
        "until": _MAYBE_TIME,
        "everywhere": {**_YES_OR_NO, "description": "For all sidecars; else the server is older than 2.11."},
    }
)
PAUSE = Operation(
    name="pause-actor",
    method="POST",
    path=f"{_ONE_ACTOR}/pause",
    summary="Pause an actor and keep its messages",
    parameters=(EVENT, _ACTOR, Parameter("until", "query", "Until then (RFC 3339); else until it is resumed.", _TIME)),
    answers={200: Answer("It is paused.", schema=_PAUSE)},
    reasons=(Reason.UNKNOWN_ACTOR, Reason.INVALID_TIME, Reason.SERVER_VERSION, *_NAMED),
)
RESUME = Operation(
    name="resume-actor",
    method="POST",
    path=f"{_ONE_ACTOR}/resume",
    summary="Let a paused actor go on",
    parameters=(EVENT, _ACTOR),
    answers={200: Answer("It goes on.", schema=_PAUSE)},
    reasons=(Reason.UNKNOWN_ACTOR, Reason.SERVER_VERSION, *_NAMED),
)
DELETE_ACTOR = Operation(
    name="delete-actor",
    method="DELETE",
    path=_ONE_ACTOR,
    summary="Delete an actor's consumer, and the messages that only it had not settled",
    parameters=(EVENT, _ACTOR),
    answers={204: Answer("It is deleted.")},
    reasons=(Reason.CONFLICT, Reason.UNKNOWN_ACTOR, *_NAMED),
)
RELOAD = Operation(
    name="reload",
    method="POST",
    path="/admin/v1/reload",
    summary="Read the config file again and apply what changed",
    answers={200: Answer("It is applied.", schema=_object({"added": _NAMES, "changed": _NAMES, "removed": _NAMES}))},
    reasons=(Reason.INVALID_CONFIG, *_NATS),
)

# ---- dead letters

_LETTERS = "/admin/v1/dead-letters"
_LETTER_REASONS = (Reason.UNKNOWN_DEAD_LETTER, *_NATS)

LIST_DEAD_LETTERS = Operation(
    name="list-dead-letters",
    method="GET",
    path=_LETTERS,
    summary="Dead letters, oldest first",
    parameters=(_OF_EVENT, _OF_ACTOR, *PAGE),
    answers={200: Answer("A page of them.", schema=_page_of("DeadLetter"))},
    reasons=_NAMED,
)
REPLAY_MANY = Operation(
    name="replay-dead-letters",
    method="POST",
    path=f"{_LETTERS}/replay",
    summary="Hand the dead letters of an actor to it again",
    parameters=(
        Parameter("event", "query", "The event.", EVENT_NAME, required=True),
        Parameter("actor", "query", "The actor.", ACTOR_NAME, required=True),
        *PAGE,
    ),
    answers={
        200: Answer(
            "What became of them; repeat with `next_cursor` to go on.",
            schema=_object(
                {
                    "replayed": _NUMBER,
                    "failed": _NUMBER,
                    "failures": {"type": "array", "items": _object({"sequence": _NUMBER, "detail": _TEXT})},
                    "next_cursor": _MAYBE_TEXT,
                }
            ),
        )
    },
    reasons=(Reason.CONFLICT, *_NAMED),
)
SHOW_DEAD_LETTER = Operation(
    name="show-dead-letter",
    method="GET",
    path=f"{_LETTERS}/{{sequence}}",
    summary="One dead letter with payload, headers and the history of its attempts",
    parameters=(_SEQUENCE,),
    answers={200: Answer("It.", schema={"$ref": "#/components/schemas/WholeDeadLetter"})},
    reasons=_LETTER_REASONS,
)
REPLAY = Operation(
    name="replay-dead-letter",
    method="POST",
    path=f"{_LETTERS}/{{sequence}}/replay",
    summary="Hand a dead letter to its actor again",
    parameters=(_SEQUENCE,),
    answers={
        200: Answer(
            "It is stored for its actor.",
            schema=_object(
                {"sequence": _NUMBER, "event": _TEXT, "actor": _TEXT, "uid": _MAYBE_TEXT, "replay": _NUMBER}
            ),
        )
    },
    reasons=(Reason.CONFLICT, Reason.TOO_LARGE, *_LETTER_REASONS),
)
DISCARD = Operation(
    name="discard-dead-letter",
    method="DELETE",
    path=f"{_LETTERS}/{{sequence}}",
    summary="Delete a dead letter",
    parameters=(_SEQUENCE,),
    answers={204: Answer("It is deleted.")},
    reasons=_LETTER_REASONS,
)

# ---- the spool

_SPOOL = "/admin/v1/spool"
_ID = Parameter("id", "path", "The message's number in the spool.")
SHOW_SPOOL = Operation(
    name="show-spool",
    method="GET",
    path=_SPOOL,
    summary="What waits on local disk for NATS",
    answers={200: Answer("It.", schema={"$ref": "#/components/schemas/Spool"})},
    reasons=(Reason.NATS_UNAVAILABLE,),
)
LIST_SET_ASIDE = Operation(
    name="list-set-aside",
    method="GET",
    path=f"{_SPOOL}/set-aside",
    summary="Messages of the spool that JetStream refuses for good, oldest first",
    parameters=PAGE,
    answers={200: Answer("A page of them.", schema=_page_of("SetAside"))},
    reasons=(Reason.SPOOL, Reason.STOPPING, Reason.NATS_UNAVAILABLE),
)
RETRY_SET_ASIDE = Operation(
    name="retry-set-aside",
    method="POST",
    path=f"{_SPOOL}/set-aside/{{id}}/retry",
    summary="Try a message that was set aside once more, behind what waits of its event",
    parameters=(_ID,),
    answers={204: Answer("It is queued.")},
    reasons=(Reason.UNKNOWN_MESSAGE, Reason.SPOOL, Reason.STOPPING, Reason.NATS_UNAVAILABLE),
)
DISCARD_SET_ASIDE = Operation(
    name="discard-set-aside",
    method="DELETE",
    path=f"{_SPOOL}/set-aside/{{id}}",
    summary="Erase a message that was set aside",
    parameters=(_ID,),
    answers={204: Answer("It is erased.")},
    reasons=(Reason.UNKNOWN_MESSAGE, Reason.SPOOL, Reason.STOPPING, Reason.NATS_UNAVAILABLE),
)

_SECONDS: Schema = {"type": "number", "minimum": 0}
_LETTER: Mapping[str, Schema] = {
    "sequence": {**_NUMBER, "description": "Its number, which the other calls take."},
    "event": _TEXT,
    "actor": _TEXT,
    "uid": _MAYBE_TEXT,
    "message_sequence": {**_NUMBER, "description": "Of the message in the event's stream."},
    "stored_at": _TIME,
    "last_attempt_at": _MAYBE_TIME,
    "died_at": _TIME,
    "reason": {**_TEXT, "description": "Why it was given up, in words."},
    "status": {"type": ["integer", "null"], "description": "The HTTP status of the last attempt."},
    "attempts": _NUMBER,
    "replay": {**_NUMBER, "description": "Which replay it was that died; 0 for none."},
    "content_type": _TEXT,
    "payload_bytes": _NUMBER,
    "truncated": {**_MAYBE_TEXT, "description": "What did not fit."},
}
SCHEMAS: Mapping[str, Schema] = {
    "Event": _object(
        {
            "name": _TEXT,
            "stream": _TEXT,
            "description": _MAYBE_TEXT,
            "declared": {"enum": ["file", "grpc"]},
            "exists": {**_YES_OR_NO, "description": "Its stream is there."},
            "messages": _MAYBE_NUMBER,
            "bytes": _MAYBE_NUMBER,
            "actors": {**_NAMES, "description": "Those declared here."},
            "others": {**_NAMES, "description": "Consumers that are declared elsewhere, and served."},
            "orphans": {**_NAMES, "description": "Consumers that nobody serves; they hold messages back."},
            "clock": {"anyOf": [{"$ref": "#/components/schemas/Clock"}, {"type": "null"}]},
            "drift": {**_NAMES, "description": "How the stream differs from the declaration."},
        }
    ),
    "Clock": _object(
        {
            "every": {**_MAYBE_SECONDS, "description": "Its period; null where it has a cron expression."},
            "cron": _MAYBE_TEXT,
            "timezone": _TEXT,
            "next_tick_at": {**_MAYBE_TIME, "description": "null: it does not tick as it is declared."},
            "problem": {**_MAYBE_TEXT, "description": "Why it does not tick."},
            "drift": {**_NAMES, "description": "How it differs in NATS from its declaration."},
        }
    ),
    "Actor": _object(
        {
            "event": _TEXT,
            "name": _TEXT,
            "url": {**_MAYBE_TEXT, "description": "null: served over the gRPC stream."},
            "declared": {"enum": ["file", "grpc"]},
            "exists": {**_YES_OR_NO, "description": "Its consumer is there."},
            "state": {"enum": ["missing", *GateState]},
            "in_flight": _NUMBER,
            "window": _NUMBER,
            "breaker": {"enum": ["closed", "open", "half-open"]},
            "pending": _MAYBE_NUMBER,
            "ack_pending": _MAYBE_NUMBER,
            "redelivered": _MAYBE_NUMBER,
            "waiting": {**_MAYBE_NUMBER, "description": "Pull requests that wait for messages."},
            "oldest_age_s": _MAYBE_SECONDS,
            "dead_letters": {**_MAYBE_NUMBER, "description": "null: NATS did not say it soon."},
            "paused": _YES_OR_NO,
            "paused_for_s": _MAYBE_SECONDS,
            "paused_until": _MAYBE_TIME,
            "pause_reason": _MAYBE_TEXT,
            "orphans": _NAMES,
            "drift": _NAMES,
        }
    ),
    "DeadLetter": _object(_LETTER),
    "Spool": {
        "oneOf": [
            _object({"enabled": {"const": False}}, description="The config has no spool."),
            _object(
                {
                    "enabled": {"const": True},
                    "path": _TEXT,
                    "messages": {**_NUMBER, "description": "Those that wait to be forwarded."},
                    "bytes": {**_NUMBER, "description": "What is kept, set aside or not."},
                    "max_bytes": _NUMBER,
                    "oldest_age_s": _SECONDS,
                    "max_age_s": _SECONDS,
                    "refuses_because": {**_MAYBE_TEXT, "description": "Why emits are refused while NATS is away."},
                    "set_aside": {**_NUMBER, "description": "Messages that JetStream refuses for good."},
                    "events": {
                        "type": "array",
                        "items": _object(
                            {
                                "event": _TEXT,
                                "messages": _NUMBER,
                                "bytes": _NUMBER,
                                "oldest_age_s": _SECONDS,
                                "waits_for": {**_MAYBE_TEXT, "description": "Besides NATS itself."},
                            }
                        ),
                    },
                }
            ),
        ]
    },
    "SetAside": _object(
        {
            "id": {**_NUMBER, "description": "Its number, which the other calls take."},
            "event": _TEXT,
            "uid": _TEXT,
            "payload_bytes": _NUMBER,
            "emitted_at": _TIME,
            "set_aside_at": _TIME,
            "reason": {**_TEXT, "description": "A reason of the error table."},
            "detail": _TEXT,
        }
    ),
    "WholeDeadLetter": _object(
        {
            **_LETTER,
            "headers": {"type": "object", "additionalProperties": _TEXT},
            "payload": {**_TEXT, "description": "Where it is text."},
            "payload_base64": {"type": "string", "contentEncoding": "base64", "description": "Where it is none."},
            "history": {"type": ["object", "null"], "description": "The attempts, as the sidecar saw them."},
        },
        optional=("payload", "payload_base64"),
    ),
}
