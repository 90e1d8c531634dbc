"""The small HTTP client of the commands that talk to a daemon, over TCP and Unix sockets."""

import contextlib
import http.client
import json
import socket
from typing import Any

DEFAULT_HTTP = "127.0.0.1:7521"
TIMEOUT_S = 60.0


class DaemonUnreachableError(Exception):
    """There is no daemon at the address; the message says what to do."""


def call(
    address: str, method: str, path: str, body: bytes, headers: dict[str, str], option: str = "--http"
) -> tuple[int, Any]:
    """Call the daemon; give the status and the decoded JSON answer, None where it is empty.

    Args:
        address: host:port or unix:path.
        method: The HTTP method.
        path: With its query.
        body: The body.
        headers: Its headers.
        option: The command's option that names the address, for the error.

    Raises:
        DaemonUnreachableError: Nobody answers there, or not in HTTP.
        ValueError: A header can't be sent.
    """
    try:
        with contextlib.closing(_connection(address)) as connection:
            connection.request(method, path, body, {name: value.encode() for name, value in headers.items()})
            response = connection.getresponse()
            status, text = response.status, response.read()
            answer = json.loads(text) if text else None
    except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
        raise DaemonUnreachableError(
            f"no walnatsd answers at {address} ({str(error) or type(error).__name__}); start it with: walnatsd run, or name "
            f"its address with {option}"
        ) from None
    if not isinstance(answer, dict | None) or (status >= 400 and "reason" not in (answer or {})):
        raise DaemonUnreachableError(f"what answers at {address} is no walnatsd; name its address with {option}")
    return status, answer


def _connection(address: str) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return _UnixConnection(address.removeprefix("unix:"))
    host = address.removeprefix("http://").rstrip("/")
    if "/" in host:
        raise OSError("write an address as 127.0.0.1:7521 or unix:/path/of.sock")
    return http.client.HTTPConnection(host, timeout=TIMEOUT_S)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
