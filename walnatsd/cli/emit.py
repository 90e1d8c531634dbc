"""`walnatsd emit`."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import click

from walnatsd.cli.http_client import DEFAULT_HTTP, DaemonUnreachableError, call

FAILED = 1


@click.command("emit")
@click.argument("event")
@click.argument("payload", default="-")
@click.option("--uid", help="Deduplication id; generated where not given.")
@click.option("--delay", metavar="DURATION", help="Hand it to actors only after this time, like 30s or 5m.")
@click.option("--trace-id", help="Trace id handed to the actors.")
@click.option("--content-type", default="application/json", show_default=True, help="Media type of the payload.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="KEY=VALUE", help="A header of the message; may repeat."
)
@click.option(
    "--http", "address", default=DEFAULT_HTTP, show_default=True, metavar="ADDRESS", help="The daemon's http address."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    event: str,
    payload: str,
    uid: str | None,
    delay: str | None,
    trace_id: str | None,
    content_type: str,
    headers: tuple[str, ...],
    address: str,
    as_json: bool,
) -> None:
    """Emit EVENT with PAYLOAD, or with what stands on standard input where PAYLOAD is - or left out."""
    body = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    parameters = {"uid": uid, "delay": delay, "trace_id": trace_id}
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    path = f"/v1/events/{quote(event, safe='')}" + (f"?{query}" if query else "")
    try:
        status, answer = call(address, "POST", path, body, _http_headers(content_type, headers))
        text = json.dumps(answer) if as_json else _in_words(status, answer)
    except KeyError:
        click.echo(f"error: what answers at {address} is no walnatsd; name its address with --http", err=True)
        sys.exit(FAILED)
    except (DaemonUnreachableError, ValueError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    click.echo(text, err=status >= 300 and not as_json)
    sys.exit(0 if status < 300 else FAILED)


def _http_headers(content_type: str, headers: Iterable[str]) -> dict[str, str]:
    """Write the message's headers as HTTP has them."""
    sent = {"Content-Type": content_type}
    for header in headers:
        name, equals, value = header.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"write a header as KEY=VALUE, not {header!r}", param_hint="--header")
        if name.lower() == "content-type":
            sent["Content-Type"] = value
            continue
        own = name if _is_own(name) else f"walnats-header-{name}"
        if own in sent:
            raise click.BadParameter(f"{name} is set twice", param_hint="--header")
        sent[own] = value
    return sent


def _in_words(status: int, answer: Mapping[str, Any]) -> str:
    if status < 300:
        verb = "duplicate of" if answer["duplicate"] else "stored as"
        return f"{verb} {answer['stream']}/{answer['sequence']}  uid {answer['uid']}"
    told = f"error: {answer['detail']}"
    return f"{told}\nIt may have been stored: retry with --uid {answer['uid']}" if answer["maybe_stored"] else told


def _is_own(name: str) -> bool:
    return name.lower().startswith("ce-") or name.lower() in {"traceparent", "tracestate"}
