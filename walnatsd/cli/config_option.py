"""The `-c FILE` option and what happens when the file is bad."""

import sys
from collections.abc import Callable, Iterable, Mapping

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
    [loaded] = load_all_or_exit([lambda: load(file, environ)])
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded


def load_all_or_exit(loads: Iterable[Callable[[], Loaded]]) -> list[Loaded]:
    """Load several files; print all that is wrong with any of them and exit with 2 where one can't be used."""
    loaded, bad = [], False
    for each in loads:
        try:
            loaded.append(each())
        except ConfigError as error:
            click.echo(f"error: {error}", err=True)
            bad = True
    if bad:
        sys.exit(BAD_CONFIG)
    return loaded
