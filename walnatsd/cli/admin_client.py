"""Talking to the administration address, for the commands of administrators."""

import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import click

from walnatsd.cli.address import Address, address_option
from walnatsd.cli.http_client import DaemonUnreachableError, call, detail_of

DEFAULT_ADMIN = "127.0.0.1:7522"
FAILED = 1

admin_option = address_option("--admin", DEFAULT_ADMIN, "The daemon's admin address.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def ask(address: Address, method: str, path: str, option: str = "--admin", /, **query: str | int | None) -> Any:
    """Call the daemon and give its answer, None where it has no body; print what is wrong and exit with 1 otherwise.

    `option` is the command's that names the address.
    """
    given = {name: value for name, value in query.items() if value is not None}
    try:
        status, answer = call(address, method, path + (f"?{urlencode(given)}" if given else ""), b"", {}, option)
    except DaemonUnreachableError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    if status >= 400:
        click.echo(f"error: {detail_of(answer)}", err=True)
        sys.exit(FAILED)
    return answer


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
