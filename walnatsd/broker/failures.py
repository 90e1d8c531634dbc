"""Why there is no connection, in words that say what to do."""

import socket
import ssl

_CREDENTIALS = (
    "it refuses the credentials; see nats.user and nats.password, nats.token, nats.nkey_seed_file or "
    "nats.credentials_file"
)
_REFUSALS = {
    "authorization violation": _CREDENTIALS,
    "authentication expired": f"{_CREDENTIALS} (they have expired)",
    "authentication revoked": f"{_CREDENTIALS} (they were revoked)",
    "authentication timeout": f"{_CREDENTIALS} (they did not come in time)",
    "account authentication": _CREDENTIALS,
}


def in_words(error: Exception) -> str:
    """Say what went wrong and, where it is known, which option to look at."""
    text = str(error).removeprefix("nats: ").strip("'\" ") or type(error).__name__
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted ({error.verify_message}); see nats.tls.ca_file and nats.tls.hostname"
            )
        case ssl.SSLError():
            return f"TLS failed ({error.reason or text}); see nats.tls, which may need cert_file and key_file"
        case ConnectionRefusedError():
            return "nothing listens there"
        case ConnectionResetError():
            return "it closed the connection"
        case socket.gaierror():
            return f"the name can't be resolved ({error.strerror})"
        case TimeoutError():
            return "it does not answer"
    for refusal, words in _REFUSALS.items():
        if refusal in text.lower():
            return words
    return text
