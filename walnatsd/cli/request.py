"""`walnatsd request`."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.http_client import DaemonUnreachableError, detail_of, exchange
from walnatsd.cli.message_options import (
    body_of,
    header_option,
    http_headers,
    http_option,
    path_of,
    trace_option,
    type_option,
    uid_option,
)
from walnatsd.cli.shown import harmless, payload_json

FAILED = 1
PATIENCE_S = 3660.0
"""The daemon ends a call in its own time, after an hour at the latest."""


@click.command("request")
@click.argument("event", shell_complete=names.events)
@click.argument("payload", default="-")
@click.option("--timeout", default="4s", show_default=True, metavar="DURATION", help="How long to wait for the answer.")
@uid_option
@trace_option
@type_option
@header_option
@http_option
@click.option("--json", "as_json", is_flag=True, help="Print the answer and its facts as JSON.")
def command(
    event: str,
    payload: str,
    timeout: str,
    uid: str | None,
    trace_id: str | None,
    content_type: str,
    headers: tuple[str, ...],
    address: Address,
    as_json: bool,
) -> None:
    """Emit EVENT as `emit` does, and print what the first responding actor answers."""
    path = path_of(event, "request", timeout=timeout, uid=uid, trace_id=trace_id)
    try:
        answer = exchange(
            address, "POST", path, body_of(payload), http_headers(content_type, headers), timeout_s=PATIENCE_S
        )
    except (DaemonUnreachableError, ValueError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    if answer.problem is not None:
        click.echo(
            json.dumps(answer.problem) if as_json else _in_words(answer.problem, event, address), err=not as_json
        )
        sys.exit(FAILED)
    if as_json:
        facts = {name: answer.headers.get(f"walnats-{name}") for name in ("uid", "actor")}
        facts["content_type"] = answer.headers.get("content-type")
        click.echo(json.dumps({**facts, **payload_json(answer.body)}))
    elif sys.stdout.isatty():
        click.echo(harmless(answer.body.decode(errors="replace")))
    else:
        click.echo(answer.body, nl=False)


def _in_words(problem: Mapping[str, Any], event: str, address: Address) -> str:
    uid = f"\nuid {problem['uid']}" if problem["maybe_stored"] else ""
    return f"error: {detail_of(problem)}{names.hint(names.admin_beside(address), problem, event)}{uid}"
