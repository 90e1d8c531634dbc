"""Opening the sockets to listen on, with errors that say what to do."""

import contextlib
import socket
from pathlib import Path

from walnatsd.config.listen import Tcp, Unix, parse_address

BACKLOG = 1024


class ListenError(Exception):
    """An address can't be listened on; the message says which and what to do."""


def open_socket(name: str, listen: str) -> socket.socket:
    """Bind and listen.

    Raises:
        ListenError: The address is taken or not ours.
    """
    address = parse_address(listen)
    try:
        if isinstance(address, Unix):
            return _open_unix(address)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise cannot_listen(name, listen, error.strerror or str(error)) from None


def cannot_listen(name: str, listen: str, why: str) -> ListenError:
    """Say that an address can't be listened on."""
    return ListenError(f"can't listen on {listen} ({name}.listen): {why}. Set {name}.listen to a free address")


def _open_unix(address: Unix) -> socket.socket:
    path = Path(address.path)
    with contextlib.suppress(FileNotFoundError):
        if path.is_socket() and not _is_alive(address.path):
            path.unlink()  # left behind by a process that was killed
    return socket.create_server(address.path, family=socket.AF_UNIX, backlog=BACKLOG)


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def bound_address(listening: socket.socket) -> str:
    """Write where a socket listens, with the port that the system chose for port 0."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return str(Unix(name))
    return str(Tcp(name[0], name[1]))
