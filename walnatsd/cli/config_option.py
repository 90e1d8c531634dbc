"""The `-c FILE` option and what happens when the file is bad."""

import sys
from collections.abc import Mapping

import click

from walnatsd.config.load import Loaded, load
from walnatsd.config.problems import ConfigError

BAD_CONFIG = 2

config_option = click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Config file. Default: walnatsd.yaml in the working directory, if there is one.",
)


def load_or_exit(file: str | None, environ: Mapping[str, str]) -> Loaded:
    """Load the config; print all that is wrong with it and exit with 2 where it can't be used."""
    try:
        loaded = load(file, environ)
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(BAD_CONFIG)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded
