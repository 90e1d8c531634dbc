"""The gate of an actor: whether attempts may start now, and how many may be in flight."""

from collections.abc import Callable

from walnatsd.dispatch.breaker import Breaker
from walnatsd.dispatch.rate_limit import RateLimit
from walnatsd.dispatch.window import Window
from walnatsd.model.actor import Actor
from walnatsd.model.outcome import Outcome, Verdict


class Gate:
    """What an actor can bear: its window, its breaker, its rate limit, its `Retry-After`, its being paused here."""

    def __init__(self, actor: Actor, credit: Callable[[], int], clock: Callable[[], float]) -> None:
        """Open the gate.

        Args:
            actor: The declaration.
            credit: How many attempts the target takes at once.
            clock: Seconds, going forward.
        """
        self._credit = credit
        self._clock = clock
        self._breaker = Breaker(actor.breaker, clock)
        self._window = Window(actor.max_jobs)
        self._rate_limit = RateLimit(actor.rate_limit, clock)
        self._held_until = 0.0
        self._has_probe = actor.wait_for is not None
        self._awaits_probe = self._has_probe
        self._paused = False

    @property
    def state(self) -> str:
        """In one word, for people: `open`, or why it is not."""
        if self._paused:
            return "paused"
        if self._breaker.is_open:
            return "breaker-open"
        if self._awaits_probe:
            return "waiting-for-probe"
        if self._clock() < self._held_until:
            return "held"
        if self._breaker.is_half_open:
            return "half-open"
        return "open" if self._credit() else "waiting-for-listener"

    @property
    def breaker(self) -> str:
        """State of the breaker: `closed`, `open` or `half-open`."""
        if self._breaker.is_open:
            return "open"
        return "half-open" if self._breaker.is_half_open else "closed"

    @property
    def breaker_is_open(self) -> bool:
        """Whether the breaker is open."""
        return self._breaker.is_open

    @property
    def window(self) -> int:
        """How many attempts the window allows in flight."""
        return self._window.size

    @property
    def wants_probe(self) -> bool:
        """Whether only a good answer of `wait_for` opens it, and it may be asked now."""
        return self._awaits_probe and not self._paused and not self._breaker.is_open

    @property
    def opens_in_s(self) -> float | None:
        """Seconds until attempts may start, 0 where they may now, None where nobody knows."""
        if self._paused or (self._awaits_probe and not self._breaker.is_open):
            return None
        return max(self._breaker.opens_again_in_s, self._held_until - self._clock(), self._rate_limit.opens_in_s, 0.0)

    def allowance(self) -> int:
        """How many attempts may be in flight."""
        if self._paused or self._awaits_probe or self._clock() < self._held_until:
            return 0
        return min(self._breaker.allowance(self._window.size), self._credit())

    def starts_left(self, limit: int) -> int:
        """How many attempts may start now, `limit` at most, as far as the rate limit has a say in it."""
        return self._rate_limit.left(limit)

    def start(self) -> int:
        """Take note that an attempt starts; gives what `record` wants to know."""
        self._rate_limit.start()
        return self._window.generation

    def record(self, outcome: Outcome, generation: int) -> None:
        """Take note of what an attempt came to that began in this generation of the window."""
        if outcome.verdict is Verdict.HANDED_BACK:
            return
        self._breaker.record(available=outcome.verdict is not Verdict.UNAVAILABLE)
        self._awaits_probe |= self._has_probe and self._breaker.is_open
        if outcome.overloaded:
            self._window.shrink(generation)
        elif outcome.verdict is not Verdict.UNAVAILABLE:
            self._window.grow()
        if outcome.holds_actor and outcome.retry_after_s is not None:
            self._held_until = max(self._held_until, self._clock() + outcome.retry_after_s)

    def record_probe(self, *, available: bool) -> None:
        """Take note of what `wait_for` answered."""
        if available:
            self._awaits_probe = False
        elif self._breaker.is_half_open:
            self._breaker.record(available=False)

    def pause(self) -> None:
        """Shut until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Open after `pause`."""
        self._paused = False
