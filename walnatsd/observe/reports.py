"""What is told to others of each attempt, besides metrics, log and traces: StatsD and Sentry."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from walnatsd.model.actor import Actor
from walnatsd.model.attempt import Attempt
from walnatsd.model.message import Message
from walnatsd.model.outcome import Verdict
from walnatsd.model.retry import Decision
from walnatsd.observe.statsd import Statsd

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.sentry import Sentry


@dataclass(frozen=True, slots=True)
class Reports:
    """Who is told; there is at least one of them."""

    statsd: Statsd | None
    sentry: "Sentry | None"

    def started(self, actor: Actor, count: int = 1) -> None:
        """Tell that attempts at so many messages begin."""
        if self.statsd is not None:
            self.statsd.started(actor.event, actor.name, count)

    def ended(self, actor: Actor, message: Message, attempt: Attempt, decision: Decision) -> None:
        """Tell what an attempt came to. One that was given back before anybody could know came to nothing."""
        verdict = attempt.outcome.verdict
        if verdict is Verdict.HANDED_BACK:
            return
        if verdict is Verdict.ACKNOWLEDGED:
            if self.statsd is not None:
                self.statsd.processed(actor.event, actor.name, attempt.duration_s)
            if self.sentry is not None:
                self.sentry.succeeded(actor)
            return
        if self.statsd is not None:
            self.statsd.failed(actor.event, actor.name)
        if self.sentry is not None:
            self.sentry.failed(actor, message, attempt, decision)

    def given_up(self, actor: Actor, message: Message, reason: str) -> None:
        """Tell of a message that became a dead letter without an attempt."""
        if self.sentry is not None:
            self.sentry.given_up(actor, message, reason)
