"""AsyncAPI 3.0 (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from walnatsd.describe.draft_07 import as_draft_07
from walnatsd.describe.system import Service, System, clocks_of
from walnatsd.model import headers
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event, Schema
from walnatsd.payload.protobuf_text import proto_text
from walnatsd.payload.schema_files import open_message

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
    keys = _keys(service.name for service in system.services)
    operations = {}
    for name in system.events:
        for service in system.emitters(name):
            operations[f"emit.{keys[service.name]}.{name}"] = _emit(service, name)
    for service, actor in system.actors():
        operations[f"act.{keys[service.name]}.{actor.event}.{actor.name}"] = _act(service, actor)
    events = system.events.values()
    schemas = {event.name: event.payload_schema for event in events if event.payload_schema is not None}
    components: dict[str, Any] = {"messages": {event.name: _message(event) for event in events}}
    if schemas:
        components["schemas"] = {name: _schema(name, schema) for name, schema in schemas.items()}
    document: dict[str, Any] = {
        "asyncapi": VERSION,
        "info": {"title": title, "version": version},
        "defaultContentType": headers.DEFAULT_CONTENT_TYPE,
        "servers": _servers(system),
        "channels": {event.name: _channel(event) for event in events},
        "operations": operations,
        "components": components,
    }
    return {key: value for key, value in document.items() if value != {}}


def _keys(services: Iterable[str]) -> dict[str, str]:
    """Give each service a key: AsyncAPI allows letters, digits, `.`, `-` and `_`; events and actors have no others."""
    keys: dict[str, str] = {}
    for name in services:
        key = stem = re.sub(r"[^A-Za-z0-9_-]", "-", name)
        number = 2
        while key in keys.values():
            key, number = f"{stem}-{number}", number + 1
        keys[name] = key
    return keys


def _servers(system: System) -> dict[str, Any]:
    addresses = dict.fromkeys(address for service in system.services for address in service.servers)
    servers = {}
    for number, address in enumerate(addresses, start=1):
        parts = urlsplit(address if "://" in address else f"nats://{address}")
        servers[f"nats-{number}" if number > 1 else "nats"] = {"host": parts.netloc, "protocol": parts.scheme}
    return servers


def _channel(event: Event) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": event.name,
        "messages": {event.name: {"$ref": f"#/components/messages/{event.name}"}},
    }
    return channel | ({"description": event.description} if event.description else {})


def _message(event: Event) -> dict[str, Any]:
    message: dict[str, Any] = {"name": event.name, "title": event.name}
    if event.description:
        message["summary"] = event.description
    if event.payload_schema is not None:
        message["payload"] = {"$ref": f"#/components/schemas/{event.name}"}
        if event.payload_schema.protobuf is not None:
            message["contentType"] = "application/x-protobuf"
    if event.example is not None:
        message["examples"] = [{"payload": event.example}]
    return message


def _schema(name: str, schema: Schema) -> dict[str, Any]:
    if schema.json_schema is not None:
        place = f"#/components/schemas/{name}/schema"
        return {"schemaFormat": _JSON_SCHEMA, "schema": as_draft_07(schema.json_schema, place)}
    assert schema.protobuf is not None
    assert schema.message is not None
    file = open_message(Path(schema.protobuf), schema.message).file
    return {"schemaFormat": _PROTOBUF, "schema": f"// The message is {schema.message}.\n{proto_text(file)}"}


def _emit(service: Service, event: str) -> dict[str, Any]:
    operation = _operation("send", service, event, f"{service.name} emits {event}")
    clocks = clocks_of(service, event)
    return operation | ({"description": f"By the clock: {', '.join(clocks)}."} if clocks else {})


def _act(service: Service, actor: Actor) -> dict[str, Any]:
    operation = _operation("receive", service, actor.event, f"{service.name}: {actor.name}")
    if actor.description:
        operation["description"] = actor.description
    if actor.responds:
        where = {
            "location": f"$message.header#/{headers.REPLY}",
            "description": "Where the emitter waits for the answer.",
        }
        operation["reply"] = {"address": where}
    return operation


def _operation(action: str, service: Service, event: str, title: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{event}"},
        "title": title,
        "messages": [{"$ref": f"#/channels/{event}/messages/{event}"}],
        "tags": [{"name": service.name}],
    }
