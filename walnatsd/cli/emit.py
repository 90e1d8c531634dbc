"""`walnatsd emit`."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.http_client import DaemonUnreachableError, call
from walnatsd.cli.message_options import (
    body_of,
    header_option,
    http_headers,
    http_option,
    path_of,
    refusal_in_words,
    trace_option,
    type_option,
    uid_option,
)

FAILED = 1


@click.command("emit")
@click.argument("event", shell_complete=names.events)
@click.argument("payload", default="-")
@uid_option
@click.option("--delay", metavar="DURATION", help="Hand it to actors only after this time, like 30s or 5m.")
@click.option("--deliver-at", metavar="TIME", help="Hand it to actors only at this time, like 2030-01-31T08:00:00Z.")
@trace_option
@type_option
@header_option
@http_option
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    event: str,
    payload: str,
    uid: str | None,
    delay: str | None,
    deliver_at: str | None,
    trace_id: str | None,
    content_type: str,
    headers: tuple[str, ...],
    address: Address,
    as_json: bool,
) -> None:
    """Emit EVENT with PAYLOAD, or with what stands on standard input where PAYLOAD is - or left out."""
    body = body_of(payload)
    path = path_of(event, uid=uid, delay=delay, deliver_at=deliver_at, trace_id=trace_id)
    try:
        status, answer = call(address, "POST", path, body, http_headers(content_type, headers))
        text = json.dumps(answer) if as_json else _in_words(status, answer, event, address)
    except KeyError:
        click.echo(f"error: what answers at {address} is no walnatsd; name its address with --http", err=True)
        sys.exit(FAILED)
    except (DaemonUnreachableError, ValueError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    click.echo(text, err=status >= 300 and not as_json)
    sys.exit(0 if status < 300 else FAILED)


def _in_words(status: int, answer: Mapping[str, Any], event: str, address: Address) -> str:
    if status >= 300:
        return refusal_in_words(answer, event, address)
    if answer["scheduled"]:
        told = "duplicate of one that is scheduled already" if answer["duplicate"] else "scheduled"
        return f"{told}  uid {answer['uid']}"
    verb = "duplicate of" if answer["duplicate"] else "stored as"
    return f"{verb} {answer['stream']}/{answer['sequence']}  uid {answer['uid']}"
