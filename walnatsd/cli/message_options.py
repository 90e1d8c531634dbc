"""What the commands that emit have in common: the options of a message, and how they become an HTTP request."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address, address_option
from walnatsd.cli.http_client import DEFAULT_HTTP, detail_of
from walnatsd.model.headers import check_text, is_token

uid_option = click.option("--uid", help="Deduplication id; generated where not given.")
trace_option = click.option("--trace-id", help="Trace id handed to the actors.")
type_option = click.option(
    "--content-type", default="application/json", show_default=True, help="Media type of the payload."
)
header_option = click.option(
    "-H", "--header", "headers", multiple=True, metavar="KEY=VALUE", help="A header of the message; may repeat."
)
http_option = address_option("--http", DEFAULT_HTTP, "The daemon's http address.")


def body_of(payload: str) -> bytes:
    """Give the payload of the command line, or what stands on standard input where that says `-`."""
    return sys.stdin.buffer.read() if payload == "-" else payload.encode()


def path_of(event: str, *rest: str, **parameters: str | None) -> str:
    """Give the path of an event, with its query."""
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return "/".join(["/v1/events", quote(event, safe=""), *rest]) + (f"?{query}" if query else "")


def http_headers(content_type: str, headers: Iterable[str]) -> dict[str, str]:
    """Write the message's headers as HTTP has them."""
    sent = {"Content-Type": content_type}
    for header in headers:
        name, equals, value = header.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"write a header as KEY=VALUE, not {header!r}", param_hint="--header")
        if not is_token(name):
            raise click.BadParameter(f"{name!r} is no name of a header", param_hint="--header")
        try:
            check_text(value)
        except ValueError as error:
            raise click.BadParameter(f"the value of {name} {error}", param_hint="--header") from None
        if name.lower() == "content-type":
            sent["Content-Type"] = value
            continue
        own = name if _is_own(name) else f"walnats-header-{name}"
        if own in sent:
            raise click.BadParameter(f"{name} is set twice", param_hint="--header")
        sent[own] = value
    return sent


def refusal_in_words(problem: Mapping[str, Any], event: str, address: Address) -> str:
    """Write why the daemon refused an emit, for a person."""
    told = f"error: {detail_of(problem)}{names.hint(names.admin_beside(address), problem, event)}"
    return f"{told}\nIt may have been stored: retry with --uid {problem['uid']}" if problem["maybe_stored"] else told


def _is_own(name: str) -> bool:
    return name.lower().startswith("ce-") or name.lower() in {"traceparent", "tracestate"}
