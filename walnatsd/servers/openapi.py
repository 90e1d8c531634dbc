"""The description of an HTTP address, OpenAPI 3.1, made from the operations that it serves and from the error table."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from walnatsd import __version__
from walnatsd.api.access import needed_for
from walnatsd.api.errors import TABLE
from walnatsd.model.refusal import Reason
from walnatsd.servers.operations import OPERATIONS, Answer, Operation, Parameter, Schema, serve
from walnatsd.servers.tokens import TOKENS

_ALWAYS = (Reason.HOST, Reason.ORIGIN, Reason.INVALID_HEADER, Reason.INVALID_REQUEST)
"""Why every call can be refused: the door, and bytes that are no good HTTP."""
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds until it is worth trying again.", "schema": {"type": "integer"}}
}
_CHALLENGE = {"WWW-Authenticate": {"description": "`Bearer` (RFC 6750).", "schema": {"type": "string"}}}
_COMES_BACK = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

_DESCRIPTION = Operation(
    name="describe",
    method="GET",
    path="/openapi.json",
    summary="This description",
    answers={200: Answer("OpenAPI 3.1.", schema={"type": "object"})},
)


def serve_description(app: web.Application, title: str, schemas: Mapping[str, Schema]) -> None:
    """Serve `/openapi.json`: everything that the application serves by then.

    Args:
        app: The application; its last path is this one.
        title: What it is.
        schemas: What operations refer to as `#/components/schemas/<name>`.
    """

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=description, content_type="application/json")

    serve(app, _DESCRIPTION, answer)
    description = orjson.dumps(describe(app, title, schemas))


def describe(app: web.Application, title: str, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    """Describe what an application serves."""
    paths: dict[str, dict[str, Any]] = {}
    operations: list[Operation] = app[OPERATIONS]
    asks_for_token = TOKENS in app
    for operation in operations:
        described = _operation(operation, asks_for_token=asks_for_token)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
        if operation.for_probes:
            paths[operation.path]["head"] = described | {"operationId": f"{operation.name}-head"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "description": "Errors are problem details (RFC 9457) with a `reason` to tell them apart by.",
        },
        "paths": paths,
        "components": {"schemas": {**schemas, "Problem": PROBLEM}} | (_SCHEMES if asks_for_token else {}),
    }


_TOKEN = "token"  # noqa: S105 - a name
_SCHEMES = {
    "securitySchemes": {
        _TOKEN: {
            "type": "http",
            "scheme": "bearer",
            "description": "One of `auth.tokens` of the config, with one of the scopes that the call names.",
        }
    }
}


def _operation(operation: Operation, *, asks_for_token: bool) -> dict[str, Any]:
    scopes = sorted(needed_for(operation.name)) if asks_for_token else []
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": {str(status): _answer(answer) for status, answer in operation.answers.items()}
        | _refusals((*operation.reasons, *_ALWAYS, *((Reason.TOKEN, Reason.SCOPE) if scopes else ()))),
    }
    if scopes:
        described["security"] = [{_TOKEN: [scope]} for scope in scopes]
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        content = {media_type: {"schema": schema} for media_type, schema in operation.body.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.required or parameter.where == "path",
        "schema": parameter.schema,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.schema is not None:
        described["content"] = {answer.media_type: {"schema": answer.schema}}
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    return described


def _refusals(reasons: Iterable[Reason]) -> dict[str, Any]:
    """Describe refusals, by status."""
    by_status: dict[int, list[Reason]] = {}
    for reason in sorted(set(reasons)):
        by_status.setdefault(TABLE[reason].http, []).append(reason)
    return {str(status): _refusal(status, by_status[status]) for status in sorted(by_status)}


def _refusal(status: int, reasons: list[Reason]) -> dict[str, Any]:
    own = {"properties": {"status": {"const": status}, "reason": {"enum": [reason.value for reason in reasons]}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, own]}
    described: dict[str, Any] = {
        "description": "; ".join(f"`{reason.value}`: {TABLE[reason].title}" for reason in reasons),
        "content": {"application/problem+json": {"schema": schema}},
    }
    if status in _COMES_BACK:
        described["headers"] = _RETRY_AFTER
    elif status == HTTPStatus.UNAUTHORIZED:
        described["headers"] = _CHALLENGE
    return described


PROBLEM: Schema = {
    "type": "object",
    "description": "Why a call was refused.",
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string", "description": "What happened, without the details."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What is wrong, and what to do about it."},
        "reason": {"enum": sorted(reason.value for reason in Reason)},
        "uid": {"type": "string", "description": "Of the message, once it is known; else empty."},
        "maybe_stored": {
            "type": "boolean",
            "description": "Nobody knows whether the message was stored: try again with the same uid.",
        },
    },
    "required": ["type", "title", "status", "detail", "reason", "uid", "maybe_stored"],
    "additionalProperties": False,
}
