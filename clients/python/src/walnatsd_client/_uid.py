"""Uids for emits that were given none."""

import os
import secrets

_BYTES = 16
_AT_ONCE = 128

_drawn: list[str] = []  # shared by all threads: `pop` and `extend` are atomic


def new_uid() -> str:
    """Give a new uid: 128 bits of chance, in hex. Chance is drawn for many at a time, for each draw is a system call."""
    try:
        return _drawn.pop()
    except IndexError:
        text = secrets.token_bytes(_BYTES * _AT_ONCE).hex()
        fresh = [text[start : start + 2 * _BYTES] for start in range(0, len(text), 2 * _BYTES)]
        uid = fresh.pop()
        _drawn.extend(fresh)
        return uid


if hasattr(os, "register_at_fork"):
    # a child with the same ones would emit under uids of its parent, and its messages pass for duplicates
    os.register_at_fork(after_in_child=_drawn.clear)
