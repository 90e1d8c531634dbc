"""`walnatsd events`: delete."""

import json
from urllib.parse import quote

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import admin_option, ask, json_option, yes_option


@click.group("events")
def command() -> None:
    """Delete events."""


@command.command("delete")
@click.argument("event", shell_complete=names.events)
@yes_option
@admin_option
@json_option
def delete(event: str, yes: bool, address: Address, as_json: bool) -> None:
    """Delete the stream of EVENT with all its messages and actors."""
    if not yes:
        question = f"This deletes all messages of {event}. Type its name to go on"
        typed = click.prompt(question, default="", show_default=False, err=as_json)
        if typed != event:
            raise click.Abort
    with names.hinting(address, event):
        ask(address, "DELETE", f"/admin/v1/events/{quote(event, safe='')}", confirm=event)
    click.echo(json.dumps({"deleted": {"event": event}}) if as_json else f"deleted {event}")
