"""TLS towards the sidecar."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a connection: whom to trust, and what to show. The files are PEM, and read when the connection is opened."""

    ca_file: str | None = None
    """The sidecar's authority. None: the system's authorities."""
    cert_file: str | None = None
    """A certificate of this client, for sidecars that want one (`client_ca_file`)."""
    key_file: str | None = None
    """Its key. None: it stands in `cert_file`."""
    server_name: str | None = None
    """The name to expect in the sidecar's certificate instead of the target's host; Unix sockets need one."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            ValueError: They can't be used, in words.
        """
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        self._try()
        try:
            return grpc.ssl_channel_credentials(
                root_certificates=_read(self.ca_file or ssl.get_default_verify_paths().cafile),
                private_key=_read(self.key_file or self.cert_file),
                certificate_chain=_read(self.cert_file),
            )
        except OSError as error:
            raise ValueError(f"can't read {error.filename}: {error.strerror}") from None

    @property
    def options(self) -> list[tuple[str, str]]:
        """Options of the channel."""
        return [] if self.server_name is None else [("grpc.ssl_target_name_override", self.server_name)]

    def _try(self) -> None:
        """See that the files can be used; gRPC would say at the first call that the sidecar is not there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

        def no_password() -> str:
            raise ValueError(f"{self.key_file or self.cert_file} holds a key that is encrypted; store it decrypted")

        try:
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
        except OSError as error:
            raise ValueError(f"{self.ca_file} holds no certificates in PEM form ({_words(error)})") from None
        try:
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file, password=no_password)
        except OSError as error:
            key = self.key_file or "the key in it"
            raise ValueError(f"{self.cert_file} and {key} are no certificate and its key ({_words(error)})") from None


def _read(file: str | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


def _words(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
