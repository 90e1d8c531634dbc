"""Addresses to listen on."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

UNIX_PREFIX = "unix:"


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP address."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A Unix socket."""

    path: str

    def __str__(self) -> str:
        return UNIX_PREFIX + self.path


def parse_address(text: str) -> Tcp | Unix:
    """Read `host:port`, `[ipv6]:port` or `unix:/path`.

    Raises:
        ValueError: The text is no address.
    """
    if text.startswith(UNIX_PREFIX):
        path = text.removeprefix(UNIX_PREFIX)
        if not path:
            raise ValueError("write a Unix socket as unix:/path/of.sock")
        return Unix(path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("write an address as 127.0.0.1:7520, [::1]:7520 or unix:/path/of.sock")
    return Tcp(host, int(port))


def _check(text: str, info: ValidationInfo) -> str:
    address = parse_address(text)
    base = (info.context or {}).get("base_dir")
    if isinstance(address, Unix) and base is not None:
        return UNIX_PREFIX + str(Path(base, address.path))
    return text


Address = Annotated[str, AfterValidator(_check)]
"""`host:port` or `unix:path`; a relative path is relative to the config file."""
