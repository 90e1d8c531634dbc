"""`walnatsd actors`: pause, resume, delete."""

import datetime as dt
import json
from urllib.parse import quote

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import admin_option, ask, json_option, yes_option


@click.group("actors")
def command() -> None:
    """Pause, resume and delete actors."""


@command.command("pause")
@click.argument("event", shell_complete=names.events)
@click.argument("actor", shell_complete=names.actors)
@click.option("--until", metavar="TIME", help="Like 2026-12-24T18:00:00Z; for ever where not given.")
@click.option("--for", "duration", metavar="DURATION", help="Instead of --until: like 30s, 5m or 2h.")
@admin_option
@json_option
def pause(event: str, actor: str, until: str | None, duration: str | None, address: Address, as_json: bool) -> None:
    """Pause ACTOR of EVENT in all sidecars; its messages are kept."""
    if until is not None and duration is not None:
        raise click.UsageError("give either --until or --for")
    if duration is not None:
        until = _from_now(duration)
    with names.hinting(address, event, actor):
        answer = ask(address, "POST", f"{_path(event, actor)}/pause", until=until)
    if as_json:
        click.echo(json.dumps(answer))
        return
    where = "in all sidecars" if answer["everywhere"] else "in this sidecar only: others need nats-server 2.11"
    click.echo(f"paused {actor} of {event} {where}" + (f", until {answer['until']}" if answer["until"] else ""))


@command.command("resume")
@click.argument("event", shell_complete=names.events)
@click.argument("actor", shell_complete=names.actors)
@admin_option
@json_option
def resume(event: str, actor: str, address: Address, as_json: bool) -> None:
    """Let ACTOR of EVENT go on."""
    with names.hinting(address, event, actor):
        answer = ask(address, "POST", f"{_path(event, actor)}/resume")
    click.echo(json.dumps(answer) if as_json else f"resumed {actor} of {event}")


@command.command("delete")
@click.argument("event", shell_complete=names.events)
@click.argument("actor", shell_complete=names.actors)
@yes_option
@admin_option
@json_option
def delete(event: str, actor: str, yes: bool, address: Address, as_json: bool) -> None:
    """Delete the consumer of ACTOR of EVENT: the messages that only it had not handled are lost."""
    if not yes:
        question = f"Delete {actor} of {event}, with the messages that only it had not handled?"
        click.confirm(question, abort=True, err=as_json)
    with names.hinting(address, event, actor):
        ask(address, "DELETE", _path(event, actor))
    click.echo(json.dumps({"deleted": {"event": event, "actor": actor}}) if as_json else f"deleted {actor} of {event}")


def _from_now(duration: str) -> str:
    from walnatsd.model.units import parse_duration  # noqa: PLC0415 - it brings pydantic, which takes its time

    try:
        seconds = parse_duration(duration)
        assert isinstance(seconds, float)
        moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"--for {duration}: {error}") from None
    if not seconds:
        raise click.UsageError(f"--for {duration}: a pause takes some time")
    return moment.isoformat()


def _path(event: str, actor: str) -> str:
    return f"/admin/v1/actors/{quote(event, safe='')}/{quote(actor, safe='')}"
