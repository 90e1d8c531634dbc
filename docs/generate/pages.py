"""Writes the generated pages and parts of pages. `make docs` runs it, a test sees that it was run."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import client_reference
import command_line
import configuration
import grpc_reference
import http_reference
import performance_table
import reliability_table
from aiohttp import web

import metrics_table
from walnatsd.servers.admin import admin_app
from walnatsd.servers.admin_operations import SCHEMAS as ADMIN_SCHEMAS
from walnatsd.servers.http import http_app
from walnatsd.servers.http_operations import SCHEMAS as HTTP_SCHEMAS

DOCS = Path(__file__).parents[1]
_HTTP_HEAD = """# HTTP

What the HTTP address serves (`127.0.0.1:7521` unless the config says otherwise). `/openapi.json` describes it for programs; this
page is made from that.

## Reasons

A refusal is `application/problem+json` (RFC 9457) with `reason`, `uid` and `maybe_stored`. `maybe_stored: true` means that nobody
knows whether the message was stored: try again with the same `uid`, and it is stored once. Over gRPC the same stands in
`google.rpc.ErrorInfo`.

{reasons}
"""
_ADMIN_HEAD = """# Administration

What the administration address serves (`127.0.0.1:7522` unless the config says otherwise). `/openapi.json` describes it for
programs; this page is made from that. The [commands](command-line.md) call it. [Reasons](http.md#reasons) of refusals are those of
the HTTP address.
"""


def made() -> dict[Path, Callable[[], str]]:
    """What makes each page."""
    reference = DOCS / "reference"
    return {
        DOCS / "metrics.md": lambda: metrics_table.page(metrics_table.PAGE.read_text()),
        performance_table.PAGE: lambda: performance_table.page(performance_table.PAGE.read_text()),
        reliability_table.PAGE: lambda: reliability_table.page(reliability_table.PAGE.read_text()),
        reference / "configuration.md": configuration.page,
        reference / "command-line.md": command_line.page,
        reference / "grpc.md": grpc_reference.page,
        reference / "http.md": lambda: http_reference.page(
            _HTTP_HEAD.format(reasons=http_reference.reasons()),
            http_reference.described(_built(http_app), "walnatsd", dict(HTTP_SCHEMAS)),
        ),
        reference / "administration.md": lambda: http_reference.page(
            _ADMIN_HEAD, http_reference.described(_built(admin_app), "walnatsd", dict(ADMIN_SCHEMAS))
        ),
        reference / "client.md": client_reference.page,
    }


def _built(build: Callable[..., web.Application]) -> web.Application:
    """Build an application of which nobody will call anything, so that its parts may be missing."""
    nothing: dict[str, Any] = dict.fromkeys(inspect.signature(build).parameters)
    return build(**nothing)


if __name__ == "__main__":
    for path, make in made().items():
        path.write_text(make())
