"""The options that say which daemon to talk to, with which token and which certificates."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

HTTPS = "https://"
_FILES = ("ca_file", "cert_file", "key_file")
TOKEN_VARIABLE = "WALNATSD_TOKEN"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens, and what opens it."""

    text: str
    """host:port, https://host:port or unix:path."""
    token: str | None = field(default=None, repr=False)
    """Of auth.tokens; None: none is sent."""
    ca_file: str | None = None
    """Whom to trust over https, instead of the system's authorities."""
    cert_file: str | None = None
    """A certificate to show over https."""
    key_file: str | None = None
    """Its key; None: it stands in `cert_file`."""

    @property
    def is_https(self) -> bool:
        """Whether it is called over TLS."""
        return self.text.startswith(HTTPS)

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
        @_file_option("ca_file", "Over https://: certificates to trust instead of the system's.")
        @_file_option("cert_file", "Over https://: a client certificate.")
        @_file_option("key_file", "Over https://: its key, where it does not stand beside it.")
        @functools.wraps(command)
        def with_address(*args: Any, address: str, token_file: str | None, **options: Any) -> Any:
            files = {name: options.pop(name) for name in _FILES}
            return command(*args, address=Address(address, _token(token_file), **_tls_files(address, files)), **options)

        return with_address

    return decorate


def _file_option(name: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"--{name.replace('_', '-')}",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help=f"{what} Default: what {_variable(name)} names.",
    )


def _variable(name: str) -> str:
    return f"WALNATSD_{name.upper()}"


def _tls_files(address: str, given: dict[str, str | None]) -> dict[str, str | None]:
    """Give the files to use: those of the options, else those of the environment.

    Raises:
        click.UsageError: They would not be used, or do not fit together.
    """
    if not address.startswith(HTTPS):
        for name, file in given.items():
            if file is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} needs an address that begins with {HTTPS}")
        return {}
    files = {name: file or os.environ.get(_variable(name)) or None for name, file in given.items()}
    if files["key_file"] is not None and files["cert_file"] is None:
        raise click.UsageError("--key-file needs --cert-file")
    return files


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
