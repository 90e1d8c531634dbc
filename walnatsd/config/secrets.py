"""The secrets that a config refers to."""

import os
from collections.abc import Mapping
from pathlib import Path

from walnatsd.model.declared import Secret


class Secrets:
    """The values of secrets, read once when the config is loaded. Never printed."""

    def __init__(self, values: Mapping[Secret, str]) -> None:
        self._values = dict(values)

    def reveal(self, secret: Secret) -> str:
        """Give the value of a secret of the config."""
        return self._values[secret]

    def __repr__(self) -> str:
        return f"<{len(self._values)} secrets>"


def read_secret(secret: Secret, environ: Mapping[str, str] = os.environ) -> str:
    """Read a secret.

    Raises:
        ValueError: There is none, in words.
    """
    if secret.env is not None:
        value = environ.get(secret.env, "")
        if not value:
            raise ValueError(f"the environment variable {secret.env} is not set")
        return value
    try:
        value = Path(secret.file or "").read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no name of a file
        raise ValueError(f"can't read {secret.file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if not value:
        raise ValueError(f"the file {secret.file} is empty")
    return value
