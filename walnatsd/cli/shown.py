"""What is shown on a terminal or in JSON: what others wrote, and how far a command has come."""

import base64
import contextlib
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Iterator

import click


def harmless(text: str) -> str:
    """Show control characters as what they are: an emitter's words must not steer a terminal."""
    return re.sub(r"[^\n\t -~\u00a0-\U0010ffff]", "�", text)


def payload_json(payload: bytes) -> dict[str, str]:
    """Give a payload as `payload` where it is text, else as `payload_base64`."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the known name that resembles a wrong one, as a sentence behind others; nothing where none does."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@contextlib.contextmanager
def progress(doing: str, of: int) -> Iterator[Callable[[int], None]]:
    """Show a bar while the body runs, which gets what to call when more are done; the argument is how many.

    It is drawn on standard error, only where that is a terminal, and there is more than one to do.
    """
    hidden = of < 2 or not sys.stderr.isatty()
    with click.progressbar(length=of, label=doing, file=sys.stderr, show_pos=True, hidden=hidden) as bar:
        yield bar.update
