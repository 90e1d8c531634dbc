"""The reign of a sidecar over an ordered actor: from the gain of the pin to its loss.

It begins with a wait. Nothing is started before all that is unsettled is in this sidecar's hands: what a former one held
has been settled by then, or has come to us.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Protocol

import structlog

from walnatsd.dispatch.intake import StartJob
from walnatsd.model.actor import Actor
from walnatsd.observe.metrics import Metrics

FIRST_LOOK_S = 0.05
LONGEST_LOOK_S = 1.0
"""Pauses between two looks at what is unsettled elsewhere; doubled each time that nothing moved."""

_log = structlog.get_logger("walnatsd.order")


class CountUnsettled(Protocol):
    """Asks the server: `walnatsd.broker.order.count_unsettled` for one actor."""

    async def __call__(self, *, stored: bool) -> int | None:
        """Count what is unsettled."""


class Reign:
    """Whether this sidecar serves the actor now, and whether it has all that is unsettled."""

    def __init__(
        self,
        actor: Actor,
        metrics: Metrics,
        *,
        count_unsettled: CountUnsettled,
        ours: Callable[[], int | None],
        start: StartJob,
        wake: Callable[[], None],
    ) -> None:
        """Prepare, without a reign.

        Args:
            actor: The declaration.
            metrics: Of the daemon.
            count_unsettled: Asks the server how many messages are handed over and not settled; see there.
            ours: Tells how many of those are in our hands; None while there is nothing to start, or something is under
                way, so that what the server counts would change meanwhile.
            start: Runs a job within the life of the actor.
            wake: Has the pull and the intake look again.
        """
        self._actor = actor
        self._awaited = metrics.order_awaited(actor.event, actor.name)
        self._reigns = metrics.order_reigns(actor.event, actor.name)
        self._count_unsettled = count_unsettled
        self._ours = ours
        self._start = start
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._moves = 0
        self._moved = asyncio.Event()
        self.number = 0
        """Tells this reign from others; what is left of an earlier one is not awaited any more."""
        self.is_on = False
        """Whether this sidecar serves."""
        self.has_all = False
        """Whether all that is unsettled is in our hands, so that attempts may start."""
        self.elsewhere = 0
        """How many unsettled messages were not, when it was looked last."""

    def begin(self) -> None:
        """Serve from now on, beginning with nothing."""
        self.is_on = True
        self.elsewhere = 0
        self._reigns.inc()
        self._start(self._gather(self.number), f"reign-{self.number}")

    def end(self) -> None:
        """Serve no more."""
        self.number += 1
        self.is_on = self.has_all = False
        self._awaited.set(0)
        self.note_move()

    def note_move(self, *, is_awaited: bool = True) -> None:
        """Take note that a message came into our hands or left them.

        Args:
            is_awaited: It may be what is waited for, so it is worth to look at once.
        """
        self._moves += 1
        if is_awaited:
            self._moved.set()

    async def _gather(self, number: int) -> None:
        """Wait until all that is unsettled is in our hands; then begin to start."""
        began = moved_at = self._loop.time()
        pause_s, least = FIRST_LOOK_S, math.inf
        while number == self.number:
            if self._ours() is None:
                self._moved.clear()
                await self._moved.wait()
                continue
            # What a dead sidecar held has come by then.
            is_late = self._loop.time() - moved_at > 2 * self._actor.ack_wait
            moves = self._moves
            unsettled = await self._count_unsettled(stored=is_late)
            if number != self.number:
                return
            ours = self._ours()
            if unsettled is not None and ours is not None and moves == self._moves:
                self.elsewhere = max(0, unsettled - ours)
                self._awaited.set(self.elsewhere)
                if self.elsewhere < least:
                    least, moved_at, pause_s = self.elsewhere, self._loop.time(), FIRST_LOOK_S
                if not self.elsewhere or self._is_given_up(began):
                    self.has_all = True
                    self._report(began)
                    self._wake()
                    return
            self._wake()  # room for what comes from elsewhere
            self._moved.clear()
            await asyncio.sleep(FIRST_LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._moved.wait()
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)

    def _is_given_up(self, began: float) -> bool:
        """Whether the attempts of all former sidecars have ended by now, so that nothing is worth waiting for."""
        if self._loop.time() - began < self._actor.job_timeout + 2 * self._actor.ack_wait:
            return False
        _log.warning(
            "messages that this sidecar does not hold are neither settled nor handed over again; it goes on without them",
            event_name=self._actor.event, actor=self._actor.name, messages=self.elsewhere,
        )  # fmt: skip
        self._awaited.set(0)
        return True

    def _report(self, began: float) -> None:
        _log.info(
            "this sidecar serves the ordered actor",
            event_name=self._actor.event, actor=self._actor.name, after_s=round(self._loop.time() - began, 3),
            held=self._ours(),
        )  # fmt: skip
