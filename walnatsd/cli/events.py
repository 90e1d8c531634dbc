"""`walnatsd events`: delete."""

from urllib.parse import quote

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import admin_option, ask


@click.group("events")
def command() -> None:
    """Delete events."""


@command.command("delete")
@click.argument("event", shell_complete=names.events)
@click.option("--yes", is_flag=True, help="Do not ask.")
@admin_option
def delete(event: str, yes: bool, address: Address) -> None:
    """Delete the stream of EVENT with all its messages and actors."""
    if not yes:
        typed = click.prompt(
            f"This deletes all messages of {event}. Type its name to go on", default="", show_default=False
        )
        if typed != event:
            raise click.Abort
    ask(address, "DELETE", f"/admin/v1/events/{quote(event, safe='')}", confirm=event)
    click.echo(f"deleted {event}")
