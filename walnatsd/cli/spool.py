"""`walnatsd spool`: status, list, retry, discard, rescue."""

import json
import sys
from typing import Any

import click

from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import FAILED, admin_option, ask, ask_for_each, json_option, table, yes_option
from walnatsd.cli.shown import harmless

PATH = "/admin/v1/spool"
id_argument = click.argument("ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(min=1))


@click.group("spool")
def command() -> None:
    """Look at what waits on disk for NATS, and decide about what JetStream refuses for good."""


@command.command("status")
@admin_option
@json_option
def status(address: Address, as_json: bool) -> None:
    """Show what waits, and what it waits for."""
    spool = ask(address, "GET", PATH)
    click.echo(json.dumps(spool) if as_json else "\n".join(lines(spool)))


def lines(spool: dict[str, Any]) -> list[str]:
    """Say in words what is in the spool; nothing where there is none."""
    if not spool["enabled"]:
        return ["There is no spool: the config has no spool section."]
    oldest = f", the oldest for {spool['oldest_age_s']:.0f} s" if spool["messages"] else ""
    size = f"{spool['bytes']} of {spool['max_bytes']} bytes"
    said = [f"spool {spool['path']}: {spool['messages']} messages wait{oldest}; {size}"]
    if spool["events"]:
        said.append(table([_row(event) for event in spool["events"]]))
    if spool["refuses_because"]:
        said.append(f"While NATS is away, emits are refused: {spool['refuses_because']}")
    if spool["set_aside"]:
        said.append(
            f"{spool['set_aside']} messages were set aside, for JetStream refuses them; see: walnatsd spool list"
        )
    return said


def _row(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "EVENT": event["event"],
        "WAIT": event["messages"],
        "OLDEST": f"{event['oldest_age_s']:.0f}s",
        "WAITS FOR": event["waits_for"] or "NATS",
    }


@command.command("list")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", help="Go on where a list ended.")
@admin_option
@json_option
def listing(limit: int, cursor: str | None, address: Address, as_json: bool) -> None:
    """List the messages that JetStream refuses for good and that were set aside."""
    page = ask(address, "GET", f"{PATH}/set-aside", limit=limit, cursor=cursor)
    if as_json:
        click.echo(json.dumps(page))
        return
    if not page["items"]:
        click.echo("Nothing is set aside.")
        return
    click.echo(table([_item(item) for item in page["items"]]))
    if page["next_cursor"] is not None:
        click.echo(f"There are more; go on with --cursor {page['next_cursor']}")


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "ID": item["id"],
        "EMITTED": item["emitted_at"][:19] + "Z",
        "EVENT": item["event"],
        "UID": harmless(item["uid"]),
        "BYTES": item["payload_bytes"],
        "REASON": harmless(f"{item['reason']}: {item['detail']}"),
    }


@command.command("retry")
@id_argument
@admin_option
@json_option
def retry(ids: tuple[int, ...], address: Address, as_json: bool) -> None:
    """Try messages that were set aside once more, behind what waits of their event."""
    paths = {id_: f"{PATH}/set-aside/{id_}/retry" for id_ in ids}
    ask_for_each(address, "POST", paths, doing="queueing", name="id").tell("queued", as_json=as_json)


@command.command("discard")
@id_argument
@yes_option
@admin_option
@json_option
def discard(ids: tuple[int, ...], yes: bool, address: Address, as_json: bool) -> None:
    """Erase messages that were set aside."""
    if not yes:
        click.confirm(f"Erase {len(ids)} for good?", abort=True, err=as_json)
    paths = {id_: f"{PATH}/set-aside/{id_}" for id_ in ids}
    ask_for_each(address, "DELETE", paths, doing="discarding", name="id").tell("discarded", as_json=as_json)


@command.command("rescue")
@click.argument("damaged", type=click.Path(exists=True, dir_okay=False))
@click.argument("new", type=click.Path(exists=False))
@json_option
def rescue(damaged: str, new: str, as_json: bool) -> None:
    """Copy what can still be read of the spool DAMAGED into the spool NEW, which must not exist. DAMAGED stays as it is.

    No daemon may run on either of them.
    """
    from walnatsd.spool.errors import SpoolError  # noqa: PLC0415 - only this command needs SQLite
    from walnatsd.spool.rescue import rescue as copy  # noqa: PLC0415

    try:
        rescued = copy(damaged, new)
    except SpoolError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    if as_json:
        click.echo(json.dumps({"messages": rescued.messages, "set_aside": rescued.set_aside, "lost": rescued.lost}))
        return
    click.echo(f"rescued {rescued.messages} messages that wait, and {rescued.set_aside} that were set aside")
    click.echo(
        f"{rescued.lost} messages can't be read"
        if rescued.lost
        else "no message is known to be lost; nobody can be sure"
    )
