"""`walnatsd emit`."""

import json
import sys
from urllib.parse import quote, urlencode

import click

from walnatsd.cli.http_client import DEFAULT_HTTP, DaemonUnreachableError, call

FAILED = 1


@click.command("emit")
@click.argument("event")
@click.argument("payload", default="-")
@click.option("--uid", help="Deduplication id; generated where not given.")
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
    trace_id: str | None,
    content_type: str,
    headers: tuple[str, ...],
    address: str,
    as_json: bool,
) -> None:
    """Emit EVENT with PAYLOAD, or with what stands on standard input where PAYLOAD is - or left out."""
    body = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    sent = {"Content-Type": content_type}
    for header in headers:
        name, equals, value = header.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"write a header as KEY=VALUE, not {header!r}", param_hint="--header")
        sent[name if _is_own(name) else f"walnats-header-{name}"] = value
    query = urlencode({key: value for key, value in (("uid", uid), ("trace_id", trace_id)) if value is not None})
    path = f"/v1/events/{quote(event, safe='')}" + (f"?{query}" if query else "")
    try:
        status, answer = call(address, "POST", path, body, sent)
    except (DaemonUnreachableError, ValueError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    if as_json:
        click.echo(json.dumps(answer))
    elif status < 300:
        place = f"{answer['stream']}/{answer['sequence']}"
        click.echo(f"{'duplicate of' if answer['duplicate'] else 'stored as'} {place}  uid {answer['uid']}")
    else:
        click.echo(f"error: {answer.get('detail') or answer}", err=True)
        if answer.get("maybe_stored"):
            click.echo(f"It may have been stored: retry with --uid {answer.get('uid')}", err=True)
    sys.exit(0 if status < 300 else FAILED)


def _is_own(name: str) -> bool:
    return name.lower().startswith("ce-") or name.lower() in {"traceparent", "tracestate"}
