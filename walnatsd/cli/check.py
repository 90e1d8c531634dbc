"""`walnatsd check`."""

import os

import click

from walnatsd.cli.config_option import config_option, load_or_exit


@click.command("check")
@config_option
def command(file: str | None) -> None:
    """Check a config file: all errors at once, each with its path, exit 2."""
    config = load_or_exit(file, os.environ).config
    events, actors = len(config.events), len(config.actors)
    click.echo(f"{file or 'the configuration'} is fine: {_count(events, 'event')}, {_count(actors, 'actor')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
