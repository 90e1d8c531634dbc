"""The small HTTP client of the commands that talk to a daemon, over TCP and Unix sockets."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from walnatsd.cli.address import HTTPS, TOKEN_VARIABLE, Address

DEFAULT_HTTP = "127.0.0.1:7521"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon answered."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    problem: dict[str, Any] | None = None
    """Why it refused, decoded; None where it did not."""


class DaemonUnreachableError(Exception):
    """There is no daemon at the address; the message says what to do."""


def call(
    address: Address, method: str, path: str, body: bytes, headers: dict[str, str], option: str = "--http"
) -> tuple[int, Any]:
    """Call the daemon; give the status and the decoded JSON answer, None where it is empty.

    Args:
        address: Where it listens, and the token to send.
        method: The HTTP method.
        path: With its query.
        body: The body.
        headers: Its headers.
        option: The command's option that names the address, for the error.

    Raises:
        DaemonUnreachableError: Nobody answers there, or not in HTTP.
        ValueError: A header can't be sent.
    """
    answer = exchange(address, method, path, body, headers, option=option)
    try:
        decoded = json.loads(answer.body) if answer.body else None
    except json.JSONDecodeError as error:
        raise _unreachable(address, error, option) from None
    if not isinstance(decoded, dict | None):
        raise _is_none(address, option)
    return answer.status, decoded


def exchange(
    address: Address,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    *,
    option: str = "--http",
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Call the daemon and give its answer as it is. Arguments and errors as of `call`."""
    with opened(address, method, path, body, headers, option=option, timeout_s=timeout_s) as response:
        told = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, told, response.read())
    return replace(answer, problem=problem_of(answer, address, option)) if answer.status >= 400 else answer


@contextlib.contextmanager
def opened(
    address: Address,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    *,
    option: str = "--http",
    timeout_s: float = TIMEOUT_S,
) -> Iterator[http.client.HTTPResponse]:
    """Call the daemon and read its answer while the body runs. Arguments and errors as of `call`."""
    try:
        with contextlib.closing(_connection(address, timeout_s)) as connection:
            sent = headers if address.token is None else {**headers, "Authorization": f"Bearer {address.token}"}
            connection.request(method, path, body, {name: value.encode() for name, value in sent.items()})
            yield connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(address, error, option) from None


def problem_of(answer: Answer, address: Address, option: str = "--http") -> dict[str, Any]:
    """Decode why the daemon refused.

    Raises:
        DaemonUnreachableError: What answered is no daemon.
    """
    try:
        problem = json.loads(answer.body)
    except json.JSONDecodeError as error:
        raise _unreachable(address, error, option) from None
    if not (isinstance(problem, dict) and "reason" in problem):
        raise _is_none(address, option)
    return problem


def detail_of(problem: Mapping[str, Any]) -> str:
    """Say why the daemon refused, and what a user of the command line can do about it."""
    told = str(problem.get("detail") or problem)
    if problem.get("reason") in _FOR_WANT_OF_A_TOKEN:
        return f"{told}. Name a file that holds it with --token-file, or set {TOKEN_VARIABLE}"
    return told


_FOR_WANT_OF_A_TOKEN = frozenset({"TOKEN", "SCOPE"})


def _unreachable(address: Address, error: Exception, option: str) -> DaemonUnreachableError:
    why = str(error) or type(error).__name__
    hung_up = address.is_https and isinstance(error, ConnectionResetError)
    if hung_up or isinstance(error, ssl.SSLError):
        return DaemonUnreachableError(f"no TLS with {address} ({_tls_words(error)}); see --ca-file and --cert-file")
    if isinstance(error, http.client.RemoteDisconnected) and not address.text.startswith("unix:"):
        why += f"; if it has TLS, write {HTTPS}"
    return DaemonUnreachableError(
        f"no walnatsd answers at {address} ({why}); start it with: walnatsd run, or name its address with {option}"
    )


def _tls_words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
    reason = str(getattr(error, "reason", ""))
    if reason == "WRONG_VERSION_NUMBER":
        return "it speaks without"
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError) or "CERTIFICATE_REQUIRED" in reason:
        return "it hung up; it may want a client certificate"  # RemoteDisconnected is a ConnectionResetError
    return reason or str(error)


def _is_none(address: Address, option: str) -> DaemonUnreachableError:
    return DaemonUnreachableError(f"what answers at {address} is no walnatsd; name its address with {option}")


def _connection(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    if address.text.startswith("unix:"):
        return _UnixConnection(address.text.removeprefix("unix:"), timeout_s)
    host = address.text.removeprefix("http://").removeprefix(HTTPS).rstrip("/")
    if "/" in host:
        raise OSError("write an address as 127.0.0.1:7521, https://host:7521 or unix:/path/of.sock")
    if address.is_https:
        return http.client.HTTPSConnection(host, timeout=timeout_s, context=_context(address))
    return http.client.HTTPConnection(host, timeout=timeout_s)


def _context(address: Address) -> ssl.SSLContext:
    from walnatsd.config.tls import TlsFiles, load_tls  # noqa: PLC0415 - it takes a while

    try:
        return load_tls(TlsFiles(address.cert_file, address.key_file, address.ca_file)).context
    except ValueError as error:
        raise OSError(str(error)) from None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
