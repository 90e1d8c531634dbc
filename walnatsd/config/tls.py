"""TLS as a client: certificates to trust, and one's own."""

import ssl


def client_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """Make a context of PEM files: those to trust instead of the system's, and a client certificate with its key.

    Raises:
        ValueError: A file can't be used, in words.
    """
    if key_file is not None and cert_file is None:
        raise ValueError("key_file needs cert_file")
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"{ca_file} holds no certificates in PEM form ({_words(error)})") from None
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(
                f"{cert_file} and {key_file or 'the key in it'} are no certificate and its key ({_words(error)})"
            ) from None
    return context


def _words(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
