"""`walnatsd docs`."""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
import yaml

from walnatsd.broker.permissions import permissions
from walnatsd.cli.config_option import BAD_CONFIG, load_all_or_exit
from walnatsd.config.load import DEFAULT_FILE, Loaded, load_declarations
from walnatsd.describe.asyncapi import asyncapi
from walnatsd.describe.d2 import d2
from walnatsd.describe.mermaid import mermaid
from walnatsd.describe.system import Service, System

_Made = TypeVar("_Made")


def _files_option(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take files as `-c A -c B` and, where a shell fills in a pattern, as `-c A B`."""
    option = click.option(
        "-c",
        "--config",
        "files",
        metavar="FILE",
        multiple=True,
        type=click.Path(dir_okay=False),
        help="Config file of a sidecar; several make one system. Default: walnatsd.yaml in the working directory.",
    )
    more = click.argument("more", metavar="[FILE]...", nargs=-1, type=click.Path(dir_okay=False))
    return option(more(command))


_title_option = click.option("--title", help="Name of the system. Default: the service, where it is just one.")


@click.group("docs")
def command() -> None:
    """Describe services, events and actors, and what they need of NATS, from config files. No secret need be there."""


@command.command("asyncapi")
@_files_option
@_title_option
@click.option("--api-version", default="0.0.0", show_default=True, metavar="TEXT", help="Version of what is described.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
def asyncapi_command(
    files: tuple[str, ...], more: tuple[str, ...], title: str | None, api_version: str, as_json: bool
) -> None:
    """AsyncAPI 3.0: a channel per event, an operation per emitter and per actor, the schemas."""
    system = _system((*files, *more))
    document = _or_exit(partial(asyncapi, system, title=title or _default_title(system), version=api_version))
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120), nl=False)


@command.command("d2")
@_files_option
@_title_option
def d2_command(files: tuple[str, ...], more: tuple[str, ...], title: str | None) -> None:
    """A map in D2: `walnatsd docs d2 -c FILE | d2 - map.svg`."""
    click.echo(d2(_system((*files, *more)), title=title or ""), nl=False)


@command.command("mermaid")
@_files_option
@_title_option
def mermaid_command(files: tuple[str, ...], more: tuple[str, ...], title: str | None) -> None:
    """A map in Mermaid, which GitHub and others draw where it stands in a page."""
    click.echo(mermaid(_system((*files, *more)), title=title or ""), nl=False)


@command.command("nats-permissions")
@click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    help="Config file of the sidecar.",
)
def nats_permissions_command(file: str) -> None:
    """What the NATS user of a sidecar must be allowed, for the config of nats-server."""
    [loaded] = load_all_or_exit([partial(load_declarations, file)])
    groups = list(permissions(loaded.config))
    click.echo("permissions: {")
    for verb in ("publish", "subscribe"):
        click.echo(f"  {verb}: {{ allow: [")
        for group in groups:
            if subjects := getattr(group, verb):
                click.echo(f"    # {group.purpose}" + (": for that moment only" if group.seldom else ""))
                for subject in subjects:
                    click.echo(f"    {'# ' if group.seldom else ''}{json.dumps(subject)}")
        click.echo("  ] }")
    click.echo("}")


class _Dumper(yaml.SafeDumper):
    """Writes what stands twice twice: tools for AsyncAPI need not know YAML's aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _system(files: tuple[str, ...]) -> System:
    files = files or (DEFAULT_FILE,)
    loaded = load_all_or_exit([partial(load_declarations, file) for file in files])
    for each in loaded:
        if "name" not in each.config.service.model_fields_set:
            click.echo(f"warning: {each.file}: service.name is not set; its place is taken by the host name", err=True)
    return _or_exit(lambda: System(_service(each) for each in loaded))


def _service(loaded: Loaded) -> Service:
    config = loaded.config
    servers = config.nats.servers if "servers" in config.nats.model_fields_set else ()
    return Service(config.service.name, config.events, config.actors, config.clocks, servers)


def _default_title(system: System) -> str:
    return system.services[0].name if len(system.services) == 1 else "events"


def _or_exit(make: Callable[[], _Made]) -> _Made:
    try:
        return make()
    except ValueError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(BAD_CONFIG)
