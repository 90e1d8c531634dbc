"""How hard the fuzz tests look, and what must be true after each of them."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import hypothesis
from hypothesis import strategies as st

from support.daemon import Process
from support.waiting import until

T = TypeVar("T")

LONG = os.environ.get("FUZZ") == "long"
"""Many examples, and others every time; else few, always the same ones."""


async def for_all(
    values: st.SearchStrategy[T], check: Callable[[T], Awaitable[None]], *, short: int, long: int
) -> None:
    """Have hypothesis look for a value for which the check fails, while the loop of the test goes on."""
    loop = asyncio.get_running_loop()

    @hypothesis.settings(
        max_examples=long if LONG else short,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=LONG,
    )
    @hypothesis.given(values)
    def look(value: T) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(check(value)), loop).result()

    await asyncio.to_thread(look)


async def _awaited(checking: Awaitable[None]) -> None:
    async with asyncio.timeout(60):
        await checking


async def see_that_it_is_well(daemon: Process, event: str) -> None:
    """See that a daemon serves after all that it was told, and that nothing of it came unforeseen."""
    assert daemon.sidecar is not None
    await until(daemon.sidecar.is_ready)
    await daemon.sidecar.emit(event, "1")
    see_no_surprise(daemon)


def see_no_surprise(daemon: Process) -> None:
    """See that no exception stands in the log: what is foreseen is told in words."""
    surprises = [line for line in daemon.lines if "Traceback" in json.dumps(line) or "exception" in line]
    assert not surprises, surprises[:3]
