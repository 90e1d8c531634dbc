"""`walnatsd check`."""

import json
import os
import sys
from collections.abc import Callable

import click

from walnatsd.cli.config_option import BAD_CONFIG, config_option, load_all_or_exit
from walnatsd.config.compatibility import Difference, differences
from walnatsd.config.lint import lint
from walnatsd.config.load import Loaded, load, load_declarations
from walnatsd.config.problems import Problem, line_of, render, with_sources

INCOMPATIBLE = 1


@click.command("check")
@config_option
@click.option(
    "--against",
    "old",
    metavar="OLD",
    type=click.Path(dir_okay=False),
    help="Also name what is different from this file, and what of it breaks those who rely on it: exit 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print warnings and differences as JSON.")
def command(file: str | None, old: str | None, as_json: bool) -> None:
    """Check a config file: all errors at once, each with its path, exit 2; what is unwise, as warnings."""
    loads: list[Callable[[], Loaded]] = [lambda: load(file, os.environ)]
    if old is not None:
        loads.append(lambda: load_declarations(old))
    new, *others = load_all_or_exit(loads)
    warnings = [Problem((), text) for text in new.warnings] + [*with_sources(lint(new.config), new.lines, {})]
    changes = _in_order(new, others[0]) if others else []
    if as_json:
        click.echo(json.dumps(_as_data(new, warnings, changes if others else None)))
    else:
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"{file or new.file or 'the configuration'} is fine: {_contents(new)}")
        if others:
            _print_changes(changes, old)
    sys.exit(INCOMPATIBLE if any(change.breaks for change in changes) else 0)


def _in_order(new: Loaded, old: Loaded) -> list[Difference]:
    try:
        found = sorted(differences(old, new), key=lambda change: line_of(change.problem.location, new.lines))
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(BAD_CONFIG)
    return [Difference(next(with_sources([change.problem], new.lines, {})), change.breaks) for change in found]


def _print_changes(changes: list[Difference], old: str | None) -> None:
    for change in changes:
        click.echo(f"{'incompatible' if change.breaks else 'compatible'}: {change.problem}")
    breaking = sum(change.breaks for change in changes)
    number = _count(len(changes), "difference") if changes else "no differences"
    click.echo(f"{number} from {old}" + (f", {breaking} incompatible" if breaking else ""))


def _as_data(new: Loaded, warnings: list[Problem], changes: list[Difference] | None) -> dict[str, object]:
    data: dict[str, object] = {"warnings": [_place(new, warning) for warning in warnings]}
    if changes is not None:
        data["differences"] = [_place(new, change.problem) | {"breaks": change.breaks} for change in changes]
    return data


def _place(new: Loaded, problem: Problem) -> dict[str, object]:
    line = line_of(problem.location, new.lines) or None
    return {"path": render(problem.location), "line": line, "message": problem.message}


def _contents(loaded: Loaded) -> str:
    return f"{_count(len(loaded.config.events), 'event')}, {_count(len(loaded.config.actors), 'actor')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
