"""The options that say which daemon to talk to, and with which token."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

TOKEN_VARIABLE = "WALNATSD_TOKEN"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens, and what opens it."""

    text: str
    """host:port or unix:path."""
    token: str | None = field(default=None, repr=False)
    """Of auth.tokens; None: none is sent."""

    def __str__(self) -> str:
        """Give where it is."""
        return self.text


def address_option(option: str, default: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the decorator that gives a command its `address`, of the option and of the token."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(option, "address", default=default, show_default=True, metavar="ADDRESS", help=what)
        @click.option(
            "--token-file",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
            help=f"A file with the token to send, where the daemon asks for one. Default: what {TOKEN_VARIABLE} holds.",
        )
        @functools.wraps(command)
        def with_address(*args: Any, address: str, token_file: str | None, **options: Any) -> Any:
            return command(*args, address=Address(address, _token(token_file)), **options)

        return with_address

    return decorate


def _token(file: str | None) -> str | None:
    """Read the token.

    Raises:
        click.UsageError: It can't be sent. The message does not hold it.
    """
    if file is None:
        token, source = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
        if not token:
            return None
    else:
        source = file
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(
                f"can't read {file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"
            ) from None
        if not token:
            raise click.UsageError(f"{file} is empty")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise click.UsageError(f"what {source} holds is no token: it has more than visible ASCII characters")
    return token
