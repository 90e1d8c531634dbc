"""AsyncAPI 3.0 (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

from typing import Any

from walnatsd.describe.system import Service, System
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event
from walnatsd.payload.schemas import inlined_json_schema

VERSION = "3.0.0"
_JSON_SCHEMA = "application/schema+json;version=draft-07"
_PROTOBUF = "application/vnd.google.protobuf;version=3"


def asyncapi(system: System, *, title: str, version: str) -> dict[str, Any]:
    """Describe a system: a channel and a message per event, an operation per emitter and per actor.

    Args:
        system: What is described.
        title: Its name.
        version: Of what is described.

    Raises:
        ValueError: A schema can't be read.
    """
    operations = {}
    for name in system.events:
        for service in system.emitters(name):
            operations[_id("emit", service.name, name)] = _emit(service, name)
    for service, actor in system.actors():
        operations[_id("act", service.name, actor.event, actor.name)] = _act(service, actor)
    return {
        "asyncapi": VERSION,
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "servers": {"nats": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "Beside each service."}},
        "channels": {_id(name): _channel(event) for name, event in system.events.items()},
        "operations": operations,
        "components": {"messages": {_id(name): _message(event) for name, event in system.events.items()}},
    }


def _id(*parts: str) -> str:
    """Make a key: AsyncAPI allows letters, digits, `.`, `-` and `_`."""
    return ".".join("".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in part) for part in parts)


def _channel(event: Event) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": event.name,
        "messages": {_id(event.name): {"$ref": f"#/components/messages/{_id(event.name)}"}},
    }
    return channel | ({"description": event.description} if event.description else {})


def _message(event: Event) -> dict[str, Any]:
    message: dict[str, Any] = {"name": event.name, "title": event.name}
    if event.description:
        message["summary"] = event.description
    schema = event.payload_schema
    if schema is not None and schema.json_schema is not None:
        message["payload"] = {"schemaFormat": _JSON_SCHEMA, "schema": inlined_json_schema(schema.json_schema)}
    elif schema is not None:
        message["contentType"] = "application/x-protobuf"
        message["payload"] = {"schemaFormat": _PROTOBUF, "schema": schema.message}
    if event.example is not None:
        message["examples"] = [{"payload": event.example}]
    return message


def _emit(service: Service, event: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{_id(event)}"},
        "title": f"{service.name} emits {event}",
        "messages": [_message_of(event)],
        "tags": [{"name": service.name}],
    }


def _act(service: Service, actor: Actor) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{_id(actor.event)}"},
        "title": f"{service.name}: {actor.name}",
        "messages": [_message_of(actor.event)],
        "tags": [{"name": service.name}],
    }
    return operation | ({"description": actor.description} if actor.description else {})


def _message_of(event: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{_id(event)}/messages/{_id(event)}"}
