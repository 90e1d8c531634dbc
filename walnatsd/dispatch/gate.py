"""The gate of an actor: whether attempts may start now, and how many may be in flight."""

from collections.abc import Callable

from walnatsd.dispatch.breaker import Breaker
from walnatsd.dispatch.rate_limit import RateLimit
from walnatsd.dispatch.window import Window
from walnatsd.model.actor import Actor
from walnatsd.model.gate_state import GateState
from walnatsd.model.outcome import Outcome, Verdict

_HANDED_BACK, _UNAVAILABLE = Verdict.HANDED_BACK, Verdict.UNAVAILABLE  # a member of an enumeration is a call each time

Era = tuple[int, int]
"""When an attempt began: the generations of the window and of the breaker."""


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
    def state(self) -> GateState:
        """`open`, or why nothing starts."""
        if self._paused:
            return GateState.PAUSED
        if self._breaker.is_open:
            return GateState.BREAKER_OPEN
        if self._awaits_probe:
            return GateState.WAITING_FOR_PROBE
        if not self._credit():
            return GateState.WAITING_FOR_LISTENER
        if self.held_s:
            return GateState.HELD
        if self._rate_limit.opens_in_s:
            return GateState.RATE_LIMITED
        return GateState.HALF_OPEN if self._breaker.is_half_open else GateState.OPEN

    @property
    def breaker(self) -> str:
        """State of the breaker: `closed`, `open` or `half-open`."""
        if self._breaker.is_open:
            return "open"
        return "half-open" if self._breaker.is_half_open else "closed"

    @property
    def held_s(self) -> float:
        """Seconds for which the actor still wants a rest, as it said with `Retry-After`."""
        return max(0.0, self._held_until - self._clock())

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
        return max(self._breaker.opens_again_in_s, self.held_s, self._rate_limit.opens_in_s)

    def allowance(self) -> int:
        """How many attempts may be in flight."""
        if self._paused or self._awaits_probe or self._clock() < self._held_until:
            return 0
        return min(self._breaker.allowance(self._window.size), self._credit())

    def starts_left(self, limit: int) -> int:
        """How many attempts may start now, `limit` at most, as far as the rate limit has a say in it."""
        return self._rate_limit.left(limit)

    def start(self) -> Era:
        """Take note that an attempt starts; gives what `record` wants to know. Each start is followed by a `record`."""
        self._rate_limit.start()
        return self._window.generation, self._breaker.start()

    def record(self, outcome: Outcome, era: Era) -> None:
        """Take note of what an attempt came to that began in this era."""
        window_generation, breaker_generation = era
        verdict = outcome.verdict
        if verdict is _HANDED_BACK:
            self._breaker.record(breaker_generation, available=None)
            return
        available = verdict is not _UNAVAILABLE
        self._breaker.record(breaker_generation, available=available)
        self._awaits_probe |= self._has_probe and self._breaker.is_open
        if outcome.overloaded:
            self._window.shrink(window_generation)
        elif available:
            self._window.grow(window_generation)
        if outcome.holds_actor and outcome.retry_after_s is not None:
            self._held_until = max(self._held_until, self._clock() + outcome.retry_after_s)

    def record_probe(self, *, available: bool) -> None:
        """Take note of what `wait_for` answered."""
        if available:
            self._awaits_probe = False
        elif self._breaker.is_half_open:
            self._breaker.record_probe(available=False)

    def pause(self) -> None:
        """Shut until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Open after `pause`."""
        self._paused = False
