"""`walnatsd scheduled`: list, cancel."""

import json
import sys
from urllib.parse import quote

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import FAILED, ask, json_option, table
from walnatsd.cli.message_options import http_option, path_of
from walnatsd.cli.shown import harmless


@click.group("scheduled")
def command() -> None:
    """Look at delayed emits that are not due yet, and cancel them."""


@command.command("list")
@click.argument("event", shell_complete=names.events)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", help="Go on where a list ended.")
@http_option
@json_option
def listing(event: str, limit: int, cursor: str | None, address: Address, as_json: bool) -> None:
    """List the delayed emits of EVENT, oldest emit first.

    A time that has passed says that the message can't be stored; the daemon's log says why.
    """
    with names.hinting(names.admin_beside(address), event):
        page = ask(address, "GET", path_of(event, "scheduled"), "--http", limit=limit, cursor=cursor)
    if as_json:
        click.echo(json.dumps(page))
        return
    if not page["items"]:
        click.echo(f"There are no delayed emits of {event}.")
        return
    click.echo(table([{"DELIVER AT": item["deliver_at"], "UID": harmless(item["uid"])} for item in page["items"]]))
    if page["next_cursor"] is not None:
        click.echo(f"There are more; go on with --cursor {page['next_cursor']}")


@command.command("cancel")
@click.argument("event", shell_complete=names.events)
@click.argument("uids", metavar="UID...", nargs=-1, required=True)
@http_option
@json_option
def cancel(event: str, uids: tuple[str, ...], address: Address, as_json: bool) -> None:
    """Cancel the delayed emits of EVENT that have these UIDs.

    Exits with 1 where one of them was not there any more: it came due, or was never there.
    """
    items = []
    for uid in uids:
        with names.hinting(names.admin_beside(address), event):
            answer = ask(address, "DELETE", path_of(event, "scheduled", quote(uid, safe="")), "--http")
        items.append({"uid": uid, "cancelled": answer["cancelled"]})
        if not as_json:
            told = "cancelled" if answer["cancelled"] else "not cancelled, for it is due or was never there:"
            click.echo(f"{told} {harmless(uid)}", err=not answer["cancelled"])
    if as_json:
        click.echo(json.dumps({"items": items}))
    sys.exit(0 if all(item["cancelled"] for item in items) else FAILED)
