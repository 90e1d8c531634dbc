"""Authorities, and the files of the certificates that they issue."""

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

LONG_AGO = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
FAR_AHEAD = dt.datetime(2190, 1, 2, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: str
    key: str

    def options(self, **others: Any) -> dict[str, Any]:
        """Write them as options of the config."""
        return {"cert_file": self.cert, "key_file": self.key} | others

    def server(self) -> ssl.SSLContext:
        """Make what a server goes by that shows this."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context

    def replace(self, issued: trustme.LeafCert) -> None:
        """Put another certificate and key there."""
        self.replace_key(issued)
        self.replace_certificate(issued)

    def replace_certificate(self, issued: trustme.LeafCert) -> None:
        """Put another certificate there and leave the key."""
        Path(self.cert).write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    def replace_key(self, issued: trustme.LeafCert) -> None:
        """Put another key there and leave the certificate."""
        issued.private_key_pem.write_to_path(self.key)

    def remove_key(self) -> None:
        """Leave the certificate alone."""
        Path(self.key).unlink()


class Authority:
    """An authority, and a folder for what it issues."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self.trusted = trustme.CA()
        self.ca = str(folder / f"{name}.pem")
        self.trusted.cert_pem.write_to_path(self.ca)

    def issue(self, *, expires: dt.datetime | None = None, begins: dt.datetime | None = None) -> trustme.LeafCert:
        """Issue a certificate for this machine."""
        return self.trusted.issue_cert("localhost", "127.0.0.1", not_after=expires, not_before=begins)

    def pair(self, name: str, *, expires: dt.datetime | None = None, begins: dt.datetime | None = None) -> Pair:
        """Issue a certificate and write it to files."""
        pair = Pair(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}-key.pem"))
        pair.replace(self.issue(expires=expires, begins=begins))
        return pair

    def give_way_to(self, other: "Authority") -> None:
        """Have another authority in the file of this one."""
        other.trusted.cert_pem.write_to_path(self.ca)

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Make what a client goes by: it trusts this authority, and may show a certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context


def der(issued: trustme.LeafCert) -> bytes:
    """Give a certificate as a peer shows it."""
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
