"""When processes stood still, on a machine with too much to do.

What comes while the observing process stands still is marked with the time when it goes on; what a sidecar is handed
meanwhile it calls its actor with when it goes on.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

TICK_S = 0.05
NOTED_S = 0.1
"""Who is late by less does not matter to what is judged in seconds."""
OBSERVER = "the observer"
STOOD_STILL = "stood still"
TELLER = f"""
import json, os, threading, time
def tell_of_stand_stills():
    while True:
        due = time.monotonic() + {TICK_S}
        time.sleep({TICK_S})
        late_s = time.monotonic() - due
        if late_s > {NOTED_S}:
            line = {{"message": {STOOD_STILL!r}, "until": time.time(), "for_s": late_s}}
            os.write(2, (json.dumps(line) + "\\n").encode())  # past the buffer, whose lock an end must not find taken
threading.Thread(target=tell_of_stand_stills, daemon=True).start()
"""
"""Python that has a process log when it stood still."""


@dataclass(frozen=True, slots=True)
class StandStill:
    """A time in which the event loop of this process did nothing, or one thing only."""

    until: float
    """By the wall clock."""
    for_s: float


class Punctuality:
    """Sleeps for a moment, again and again, and sees how late it wakes."""

    def __init__(self) -> None:
        self.stand_stills: list[StandStill] = []

    async def watch(self) -> None:
        """Watch for ever."""
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            if (late_s := time.monotonic() - due) > NOTED_S:
                self.stand_stills.append(StandStill(time.time(), late_s))


def longest(stand_stills: Iterable[StandStill], *, since: float, until: float) -> StandStill | None:
    """The longest one that reaches into a time."""
    within = [each for each in stand_stills if each.until > since and each.until - each.for_s < until]
    return max(within, key=lambda each: each.for_s, default=None)
