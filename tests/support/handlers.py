"""Handlers that a process of its own can import."""

import os
import threading

import walnatsd_client as walnatsd


def tell_where(count: int) -> None:
    """Reject with what was called, and where."""
    raise walnatsd.Reject(f"{count} {os.getpid()} {threading.get_ident()} {walnatsd.current_delivery().sequence}")


async def tell_where_async(count: int) -> None:
    tell_where(count)
