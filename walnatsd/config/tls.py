"""TLS from PEM files: contexts for servers and clients, and what can be said about their certificates beforehand."""

import contextlib
import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walnatsd.config.settings import NatsTls, ServerTls
from walnatsd.model.actor import ActorTls

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module has no name for."""
_FLIGHTS = 8
"""More turns than any handshake has."""
_REASONS = {
    "KEY_VALUES_MISMATCH": "the key belongs to another certificate",
    "NO_START_LINE": "no PEM text",
    "NO_CERTIFICATE_OR_CRL_FOUND": "no PEM text",
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of one place in the config, as paths."""

    cert_file: str | None
    """Our certificate and those between it and the authority."""
    key_file: str | None
    """Its key; None: it stands in `cert_file`."""
    ca_file: str | None
    """Whom to trust. A server wants a certificate of these from callers; None: none is wanted. A client: None is the
    system's authorities."""
    for_server: bool = False
    """Whether we are the server."""

    def read(self) -> tuple[bytes, ...]:
        """Read what they hold.

        Raises:
            ValueError: A file can't be read, in words.
        """
        return tuple(_read(path) for path in (self.cert_file, self.key_file, self.ca_file))


def server_files(tls: ServerTls) -> TlsFiles:
    """Give the files of a listening address."""
    return TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file, for_server=True)


def client_files(tls: NatsTls | ActorTls) -> TlsFiles:
    """Give the files for what is called."""
    return TlsFiles(tls.cert_file, tls.key_file, tls.ca_file)


@dataclass(frozen=True, slots=True)
class Tls:
    """What the files held at one moment: never a certificate of before with a key of after."""

    contents: tuple[bytes, ...]
    """Certificate chain, key (empty: beside the certificate) and authorities (empty: none), in PEM form."""
    context: ssl.SSLContext
    """Made of them."""
    not_before: float | None
    """Since when our certificate is valid, in seconds since the epoch; None: there is none, or it can't be told."""
    not_after: float | None
    """Until when it is."""

    @property
    def valid_until(self) -> str | None:
        """The same as text."""
        return None if self.not_after is None else _day(self.not_after)


def load_tls(files: TlsFiles) -> Tls:
    """Make a context of PEM files, TLS 1.2 or newer.

    Raises:
        ValueError: A file can't be used, in words, or was replaced while it was read.
    """
    if files.key_file is not None and files.cert_file is None:
        raise ValueError("key_file needs cert_file")
    contents = files.read()
    context = _server_context(files) if files.for_server else _client_context(files)
    validity = None if files.cert_file is None else _validity(files)
    if files.read() != contents:
        raise ValueError("the files were replaced while they were read; they are read again")
    return Tls(contents, context, *(validity or (None, None)))


def why_not_valid(tls: Tls, files: TlsFiles, now: float) -> str | None:
    """Say why nobody accepts our certificate at a time; None where it is valid, or there is none."""
    if tls.not_after is not None and now > tls.not_after:
        return f"the certificate in {files.cert_file} has expired, on {_day(tls.not_after)}; renew it"
    if tls.not_before is not None and now < tls.not_before:
        return f"the certificate in {files.cert_file} is not valid before {_day(tls.not_before)}; look at the clock"
    return None


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # who is let in is asked of every connection: no session, renewed or resumed, goes by what was trusted before
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, files)
    if files.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.ca_file)
        except (ssl.SSLError, OSError) as error:
            raise _no_authorities(files.ca_file, error) from None
    return context


def _client_context(files: TlsFiles) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
    except (ssl.SSLError, OSError) as error:
        raise _no_authorities(files.ca_file, error) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.cert_file is not None:
        _load_pair(context, files)
    return context


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    assert files.cert_file is not None
    key = files.key_file or "the key in it"

    def no_password() -> str:  # else OpenSSL would ask for it on the terminal
        raise ValueError(f"{files.key_file or files.cert_file} holds a key that is encrypted; store it decrypted")

    try:
        context.load_cert_chain(files.cert_file, files.key_file, password=no_password)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{files.cert_file} and {key} are no certificate and its key ({_words(error)})") from None


def _validity(files: TlsFiles) -> tuple[float, float] | None:
    """Tell since when and until when our certificate is valid.

    The ssl module tells it of a peer only, so that a handshake with ourselves, in memory, makes one of us. It also shows
    that the chain and the key are good for a handshake, and that the certificate of a server is one for servers.
    """
    assert files.cert_file is not None
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    _load_pair(server, files)
    judge = client
    if not files.for_server:
        client.verify_mode = ssl.CERT_NONE
        _load_pair(client, files)
        judge = server
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.load_verify_locations(files.cert_file)
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        told = _shake_hands(server, client)[judge is server]
    except ssl.SSLError as error:
        if not files.for_server:
            return None  # the server that it is for may be less strict
        why = getattr(error, "verify_message", None) or _words(error)
        raise ValueError(f"the certificate in {files.cert_file} is none for a server ({why})") from None
    if not told:
        return None
    return ssl.cert_time_to_seconds(str(told["notBefore"])), ssl.cert_time_to_seconds(str(told["notAfter"]))


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[dict[str, Any], dict[str, Any]]:
    """Connect two contexts in memory; give what the client and what the server learn of the other's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_FLIGHTS):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].getpeercert() or {}, ends[1].getpeercert() or {}


def _read(path: str | None) -> bytes:
    try:
        return b"" if path is None else Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from None


def _no_authorities(path: str | None, error: OSError) -> ValueError:
    return ValueError(f"{path} holds no certificates in PEM form ({_words(error)})")


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return _REASONS.get(reason, reason)


def _day(timestamp: float) -> str:
    return dt.datetime.fromtimestamp(timestamp, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
