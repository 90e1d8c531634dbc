"""The gate of an actor: whether attempts may start now."""

from collections.abc import Callable

from walnatsd.dispatch.breaker import Breaker
from walnatsd.model.actor import Breaker as BreakerSettings
from walnatsd.model.outcome import Outcome, Verdict


class Gate:
    """Shut while the breaker is open, while the actor asked for quiet with `Retry-After`, and while it is paused here."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._breaker = Breaker(settings, clock)
        self._clock = clock
        self._held_until = 0.0
        self._paused = False

    @property
    def breaker_is_open(self) -> bool:
        """Whether the breaker is open."""
        return self._breaker.is_open

    @property
    def opens_in_s(self) -> float | None:
        """Seconds until attempts may start, 0 where they may now, None where nobody knows."""
        if self._paused:
            return None
        return max(0.0, self._breaker.opens_again_in_s, self._held_until - self._clock())

    def allowance(self, limit: int) -> int:
        """How many attempts may be in flight, `limit` at most."""
        if self._paused or self._clock() < self._held_until:
            return 0
        return self._breaker.allowance(limit)

    def record(self, outcome: Outcome) -> None:
        """Take note of what an attempt came to."""
        self._breaker.record(available=outcome.verdict is not Verdict.UNAVAILABLE)
        if outcome.holds_actor and outcome.retry_after_s is not None:
            self._held_until = max(self._held_until, self._clock() + outcome.retry_after_s)

    def pause(self) -> None:
        """Shut until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Open after `pause`."""
        self._paused = False
