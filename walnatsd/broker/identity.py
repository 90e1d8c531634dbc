"""Proving to NATS who we are, with an NKey seed or a credentials file.

The files are read at each connect, so that they can be replaced while the daemon runs. The nats library's own reading
loops for ever over a file without a JWT, and a file that can't be read ends its reconnecting without a word.
"""

import base64
import re
from pathlib import Path
from typing import Any

from nats import errors

from walnatsd.broker.client import Client
from walnatsd.config.settings import Nats

_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+(\S+)\s")
_SEED = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s")


def identity_options(settings: Nats, client: Client) -> dict[str, Any]:
    """Give the connect options of an identity that is kept in a file."""
    if settings.credentials_file is not None:
        return _credentials(settings.credentials_file)
    if settings.nkey_seed_file is not None:
        return _seed(settings.nkey_seed_file, client)
    return {}


def _credentials(path: str) -> dict[str, Any]:
    def jwt() -> bytes:
        return _part(path, _JWT, "JWT").encode()

    def sign(nonce: str) -> bytes:
        return base64.b64encode(_key_pair(path, _part(path, _SEED, "NKey seed")).sign(nonce.encode()))

    return {"user_jwt_cb": jwt, "signature_cb": sign}


def _seed(path: str, client: Client) -> dict[str, Any]:
    def sign(nonce: str) -> bytes:
        pair = _key_pair(path, _read(path).strip())
        client._public_nkey = pair.public_key.decode()  # noqa: SLF001 - sent beside the signature, and read after it
        return base64.b64encode(pair.sign(nonce.encode()))

    return {"signature_cb": sign}


def _part(path: str, pattern: re.Pattern[str], what: str) -> str:
    found = pattern.search(_read(path))
    if found is None:
        raise errors.Error(f"{path} has no {what}: it is no credentials file, or is damaged")
    return found[1]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.Error(f"can't read {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None


def _key_pair(path: str, seed: str) -> Any:
    import nkeys  # noqa: PLC0415 - an optional library; the config was checked for it

    try:
        return nkeys.from_seed(bytearray(seed.encode()))
    except nkeys.NkeysError:
        raise errors.Error(f"the NKey seed in {path} is damaged") from None
