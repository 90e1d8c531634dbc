"""Talking to the administration address, for the commands of administrators."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import click

from walnatsd.cli.address import Address, address_option
from walnatsd.cli.http_client import DaemonUnreachableError, call, detail_of
from walnatsd.cli.shown import harmless, progress

DEFAULT_ADMIN = "127.0.0.1:7522"
FAILED = 1

admin_option = address_option("--admin", DEFAULT_ADMIN, "The daemon's admin address.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


class FailedError(click.ClickException):
    """The daemon refused, or is not there. Left alone it ends the command: it is printed, and the exit code is 1."""

    exit_code = FAILED

    def __init__(self, message: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem = problem or {}
        """What the daemon said, where it refused."""

    @property
    def is_about_one(self) -> bool:
        """Whether it is about the very thing that was asked for, so that others of its kind can be asked for."""
        return 400 <= self.problem.get("status", 0) < 500 and self.problem["status"] not in {401, 403, 429}

    def show(self, file: Any = None) -> None:
        """Print it."""
        click.echo(f"error: {self.message}", file=file, err=True)


def ask(address: Address, method: str, path: str, option: str = "--admin", /, **query: str | int | None) -> Any:
    """Call the daemon and give its answer, None where it has no body.

    `option` is the command's that names the address.

    Raises:
        FailedError: It refused, or is not there.
    """
    given = {name: value for name, value in query.items() if value is not None}
    try:
        status, answer = call(address, method, path + (f"?{urlencode(given)}" if given else ""), b"", {}, option)
    except DaemonUnreachableError as error:
        raise FailedError(str(error)) from None
    if status >= 400:
        raise FailedError(harmless(detail_of(answer)), answer)
    return answer


@dataclass(slots=True)
class Done:
    """What became of several things that were asked for one by one."""

    done: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Each with what names it, and `detail`."""
    untried: list[int] = field(default_factory=list)
    """Those that were left after a failure that others would have met, too."""

    def tell(self, verb: str, *, as_json: bool) -> None:
        """Print it, and exit with 1 where something failed."""
        if as_json:
            told = {verb: self.done, "failed": len(self.failures), "failures": self.failures}
            click.echo(json.dumps(told | ({"not_tried": self.untried} if self.untried else {})))
        else:
            for failure in self.failures:
                click.echo(f"{next(iter(failure.values()))}: {failure['detail']}", err=True)
            failed = f", {len(self.failures)} failed" if self.failures else ""
            untried = f", {len(self.untried)} not tried" if self.untried else ""
            click.echo(f"{verb} {self.done}{failed}{untried}")
        if self.failures:
            sys.exit(FAILED)


def ask_for_each(address: Address, method: str, paths: Mapping[int, str], *, doing: str, name: str) -> Done:
    """Call the daemon for each of several things, go on where one of them fails, and show how far it is.

    Args:
        address: Where the daemon is.
        method: The HTTP method.
        paths: By the number of each thing.
        doing: What is done, for the bar.
        name: What such a number is, in JSON.

    Raises:
        FailedError: There is only one thing, or nothing was done yet and what failed would fail for all of them.
    """
    done, numbers = Done(), list(paths)
    with progress(doing, len(numbers)) as advance:
        for place, number in enumerate(numbers, 1):
            try:
                ask(address, method, paths[number])
            except FailedError as error:
                if len(numbers) == 1 or not (error.is_about_one or done.done or done.failures):
                    raise
                done.failures.append({name: number, "detail": error.message})
                if not error.is_about_one:
                    done.untried = numbers[place:]
                    break
            else:
                done.done += 1
            advance(1)
    return done


def ask_for_all(address: Address, path: str, **query: str | int | None) -> Iterator[dict[str, Any]]:
    """Go through all pages of a list."""
    cursor: str | None = None
    while True:
        page = ask(address, "GET", path, limit=500, cursor=cursor, **query)
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def table(rows: list[dict[str, Any]]) -> str:
    """Write rows as columns, as wide as they must be; the keys are the heads. None and empty lists are a dash."""
    heads = list(rows[0])
    cells = [[_cell(row[head]) for head in heads] for row in rows]
    widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(len(heads))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in [heads, *cells]]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
