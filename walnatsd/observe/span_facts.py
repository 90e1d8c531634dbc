"""What spans say: the attributes of operations, messages, attempts and settlements, with their names in the conventions."""

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from walnatsd.model.headers import MESSAGE_ID, TRACE_ID
from walnatsd.model.message import Message
from walnatsd.model.retry import Ack, DeadLetter, Decision, Retry

Facts = dict[str, str | int | float | bool]


@lru_cache(maxsize=4096)
def _cached_attributes(operation: str, kind: str | None, event: str) -> Facts:
    attributes: Facts = {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.destination.name": event,
    }
    if kind is not None:
        attributes["messaging.operation.type"] = kind
    return attributes


def attributes(operation: str, kind: str | None, event: str) -> Facts:
    return dict(_cached_attributes(operation, kind, event))


def conversation(trace_id: str) -> Facts:
    return {"messaging.message.conversation_id": trace_id} if trace_id else {}


def identity(header: Mapping[str, str]) -> Facts:
    identity = conversation(header.get(TRACE_ID, ""))
    if uid := header.get(MESSAGE_ID):
        identity["messaging.message.id"] = uid
    return identity


def of_consumer(event: str, actor: str) -> Facts:
    return attributes("deliver", "process", event) | {"messaging.consumer.group.name": actor}


def of_message(message: Message) -> Facts:
    return {
        **identity(message.headers),
        "messaging.message.id": message.identity,
        "messaging.message.body.size": len(message.payload),
        "walnatsd.stream": message.stream,
        "walnatsd.sequence": message.sequence,
    }


@lru_cache(maxsize=4096)
def of_attempt(event: str, actor: str, url: str | None) -> tuple[str, Facts]:
    """Name the attempt, and give its attributes: those of an HTTP client where there is a webhook."""
    own: Facts = {"walnatsd.actor": actor, "walnatsd.event": event}
    if url is None:
        return f"listen {actor}", own
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "POST", own | {"http.request.method": "POST"}
    host = parts.hostname or ""
    return f"POST {parts.path or '/'}", own | {
        "http.request.method": "POST",
        # without user and password, as the conventions demand; a query may hold a key, too
        "url.full": f"{parts.scheme}://{host}:{port}{parts.path}",
        "url.template": parts.path or "/",
        "server.address": host,
        "server.port": port,
    }


def settlement(decision: Decision) -> tuple[str, Facts]:
    facts: Facts = {"walnatsd.decision": type(decision).__name__}
    match decision:
        case Ack():
            return "ack", facts
        case Retry(after_s, counts):
            return "nak", facts | {"walnatsd.retry.after_s": round(after_s, 3), "walnatsd.retry.counts": counts}
        case DeadLetter(cause, reason):
            return "term", facts | {"walnatsd.dead_letter.cause": cause.value, "walnatsd.dead_letter.reason": reason}
        case _:
            return "nak", facts
