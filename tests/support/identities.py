"""Operators, accounts and users of NATS, with their JWTs."""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

_OPERATOR, _ACCOUNT, _USER = nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER
_NO_LIMIT = -1


@dataclass(frozen=True)
class Identity:
    """A key pair."""

    seed: str
    public: str

    @classmethod
    def new(cls, kind: int = _USER) -> "Identity":
        seed = bytes(nkeys.encode_seed(os.urandom(32), kind))
        return cls(seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode())

    def claim(self, subject: "Identity", kind: str, **claims: Any) -> str:
        """Write a JWT about somebody."""
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {
            "jti": "x", "iat": 1, "iss": self.public, "sub": subject.public, "name": kind,
            "nats": {"type": kind, "version": 2, **claims},
        }  # fmt: skip
        text = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(body).encode())}"
        return f"{text}.{_encode(nkeys.from_seed(bytearray(self.seed.encode())).sign(text.encode()))}"


class Operator:
    """An operator with one account that may use JetStream."""

    def __init__(self) -> None:
        self._operator = Identity.new(_OPERATOR)
        self._account, system = Identity.new(_ACCOUNT), Identity.new(_ACCOUNT)
        limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _NO_LIMIT)
        stores = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _NO_LIMIT)
        self.server_options = {
            "operator": self._operator.claim(self._operator, "operator"),
            "system_account": system.public,
            "resolver": "MEMORY",
            "resolver_preload": {
                self._account.public: self._operator.claim(self._account, "account", limits=limits | stores),
                system.public: self._operator.claim(system, "account", limits=limits),
            },
        }

    def credentials(self) -> str:
        """Write the credentials file of a new user."""
        user = Identity.new()
        jwt = self._account.claim(user, "user", subs=_NO_LIMIT, data=_NO_LIMIT, payload=_NO_LIMIT)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def write(path: Path, text: str) -> str:
    """Write a file; give its path."""
    path.write_text(text)
    return str(path)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
