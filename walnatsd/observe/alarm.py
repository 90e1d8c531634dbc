"""Which failures are worth a report: those of walnats' ErrorThresholdMiddleware, as often as its FrequencyMiddleware lets."""

from collections.abc import Callable
from enum import StrEnum

from walnatsd.observe.sparingly import Sparingly

TOLERATED_FAILURES = 20
"""In a row, of the sidecar or of an actor, and of one message: walnats' defaults."""
AGAIN_AFTER_S = 600.0
"""The same kind of failure of an actor is not reported again before: walnats' default."""

Name = tuple[str, str]
"""Event and actor."""


class Ruling(StrEnum):
    """What becomes of a failure; the label of the metric."""

    REPORTED = "reported"
    TOLERATED = "tolerated"
    """There were not enough of them in a row."""
    REPEATED = "repeated"
    """The same was reported a short time ago."""


class Alarm:
    """Counts failures in a row: overall, and by actor. A success ends both rows, as in walnats."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with no failures.

        Args:
            clock: Gives the time in seconds; it never goes back.
        """
        self._overall = 0
        self._by_actor: dict[Name, int] = {}
        self._reports = Sparingly(AGAIN_AFTER_S, clock)

    def succeeded(self, actor: Name) -> None:
        """Take note of a success."""
        self._overall = 0
        self._by_actor.pop(actor, None)

    def failed(self, actor: Name, kind: str, *, attempt: int) -> Ruling:
        """Take note of a failure of some kind, at this attempt at the message, and say what becomes of it."""
        of_actor = self._by_actor.get(actor, 0)
        if max(self._overall, of_actor, attempt) > TOLERATED_FAILURES:
            return self.given_up(actor, kind)
        self._overall += 1
        self._by_actor[actor] = of_actor + 1
        return Ruling.TOLERATED

    def given_up(self, actor: Name, kind: str) -> Ruling:
        """Say what becomes of a failure that is worth a report however many there are: a dead letter."""
        return Ruling.REPORTED if self._reports.may_say((actor, kind)) else Ruling.REPEATED
