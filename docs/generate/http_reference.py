"""The references of the HTTP addresses, from their OpenAPI descriptions, and all reasons, from the error table."""

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from walnatsd.api.errors import TABLE
from walnatsd.servers.openapi import describe

Described = dict[str, Any]


def page(head: str, description: Described) -> str:
    """Give a page for what an address serves."""
    parts = [head]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if method != "head":
                parts += _operation(method.upper(), path, operation)
    if len(schemas := description["components"]["schemas"]) > 1:
        parts.append("## What is answered\n")
        for name, schema in schemas.items():
            parts += _schema(name, schema)
    return "\n".join(parts).rstrip() + "\n"


def reasons() -> str:
    """Give the table of all reasons."""
    rows = [
        f"| `{reason.value}` | {entry.http} | `{entry.grpc}` | {entry.title} |"
        for reason, entry in sorted(TABLE.items())
    ]
    return "\n".join(["| reason | HTTP | gRPC | what happened |", "|---|---|---|---|", *rows])


def described(app: web.Application, title: str, schemas: dict[str, Any]) -> Described:
    """Describe an address as `/openapi.json` does."""
    return describe(app, title, schemas)


def _operation(method: str, path: str, operation: Described) -> Iterator[str]:
    yield f"## {operation['summary']}\n"
    yield f"`{method} {path}`\n"
    if text := operation.get("description"):
        yield f"{text}\n"
    if parameters := operation["parameters"]:
        yield "| parameter | in | takes | meaning |\n|---|---|---|---|"
        for each in parameters:
            must = ", must be given" if each["required"] and each["in"] != "path" else ""
            yield f"| `{each['name']}` | {each['in']}{must} | {_kind(each['schema'])} | {_cell(each['description'])} |"
        yield ""
    if body := operation.get("requestBody"):
        yield "Body: " + ", ".join(f"`{media_type}`" for media_type in body["content"]) + ".\n"
    yield "| status | answer |\n|---|---|"
    for status, answer in operation["responses"].items():
        content = ", ".join(f"`{media}`" for media in answer.get("content", {}) if "problem" not in media)
        yield f"| {status} | {_cell(answer['description'])}{f' ({content})' if content else ''} |"
    yield ""


def _schema(name: str, schema: Described) -> Iterator[str]:
    yield f"### {name}\n"
    if text := schema.get("description"):
        yield f"{text}\n"
    if properties := schema.get("properties"):
        yield "| field | type | meaning |\n|---|---|---|"
        for field, each in properties.items():
            yield f"| `{field}` | {_kind(each)} | {_cell(each.get('description', ''))} |"
        yield ""


def _kind(schema: Described) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_kind(each) for each in schema[several])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(kind)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
