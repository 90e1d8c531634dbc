"""The listeners of one actor: who is handed which message, and until when the answer is waited for."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import structlog

from walnatsd.listeners.session import Session
from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.refusal import Refusal
from walnatsd.observe.metrics import Metrics

NOBODY = Outcome(Verdict.HANDED_BACK, "no listener has room for it")

_log = structlog.get_logger("walnatsd.listeners")


class Listeners:
    """The sessions that serve one actor in this sidecar: a target of dispatch."""

    def __init__(self, actor: Actor, metrics: Metrics) -> None:
        self.changed: Callable[[], None] = lambda: None
        """Called when the credit has changed; set by who dispatches."""
        self._actor = actor
        self._sessions: list[Session] = []
        self._credit = 0
        self._turn = 0
        self._ended: Refusal | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._late = metrics.late_results(actor.event, actor.name)
        self._count = metrics.listeners(actor.event, actor.name)
        self._timed_out = Outcome(
            Verdict.FAILED, f"no answer within job_timeout ({actor.job_timeout:g} s)", overloaded=True
        )

    # ---- a target of dispatch

    def credit(self) -> int:
        """How many deliveries all sessions together take at once."""
        return self._credit

    async def attempt(self, message: Message, attempt: int) -> Outcome:
        """Hand a message over and wait for what it comes to.

        Never raises but when cancelled: whatever happens is an outcome.
        """
        outcome: asyncio.Future[Outcome] = self._loop.create_future()

        def end(came: Outcome) -> None:
            if not outcome.done():
                outcome.set_result(came)

        self.hand_over(message, attempt, end)
        try:
            return await outcome
        except asyncio.CancelledError:
            self.take_back(message)
            raise

    def hand_over(self, message: Message, attempt: int, ended: Callable[[Outcome], None]) -> None:
        """Hand a message to the least loaded session, of equal ones to that whose turn is longest ago.

        `ended` is called with what it comes to, once.
        """
        sessions = self._sessions
        session = sessions[0] if len(sessions) == 1 else min(sessions, key=_precedence, default=None)
        if session is None or len(session) >= session.max_in_flight:
            ended(NOBODY)
            return
        self._turn += 1
        session.turn = self._turn
        timeout_s = self._actor.job_timeout
        expires_at = self._loop.time() + timeout_s
        if self._sweep is None:
            self._sweep = self._loop.call_at(expires_at, self._expire)
        session.hand_over(message, attempt, ended, deadline=time.time() + timeout_s, expires_at=expires_at)

    def take_back(self, message: Message) -> None:
        """Forget a message that was handed over: what a listener still says of it is a late result."""
        for session in self._sessions:
            session.forget(message)

    def _expire(self) -> None:
        """Resolve what was not answered in time: one timer for all deliveries of the actor."""
        now = self._loop.time()
        expiries = [session.expire(now, self._timed_out) for session in self._sessions]
        next_at = min((at for at in expiries if at is not None), default=None)
        self._sweep = None if next_at is None else self._loop.call_at(next_at, self._expire)

    # ---- for the server

    @contextlib.contextmanager
    def join(self, max_in_flight: int) -> Iterator[Session]:
        """Add a session while the body runs; what it has in flight then is handed back at once.

        Args:
            max_in_flight: How many deliveries it takes at once; 0 for the actor's `max_jobs`.

        Raises:
            Refusal: The actor is not served here any more.
        """
        if self._ended is not None:
            raise self._ended
        session = Session(
            max_in_flight or self._actor.max_jobs,
            responds=self._actor.responds,
            changed=self._add_up,
            ignored=self._late.inc,
        )
        self._sessions.append(session)
        self._note("a listener joined", max_in_flight=session.max_in_flight)
        try:
            yield session
        finally:
            session.close()
            self._sessions.remove(session)
            self._note("a listener left", handed_back=session.handed_back)

    def end(self, why: Refusal) -> None:
        """End all sessions, those to come too, with this status."""
        self._ended = why
        if self._sweep is not None:
            self._sweep.cancel()
        for session in self._sessions:
            session.end(why)
        self._add_up()

    def _add_up(self) -> None:
        self._credit = sum(session.max_in_flight for session in self._sessions)
        self.changed()

    def _note(self, what: str, **facts: int) -> None:
        self._count.set(len(self._sessions))
        _log.info(what, event_name=self._actor.event, actor=self._actor.name, listeners=len(self._sessions), **facts)
        self._add_up()


def _precedence(session: Session) -> tuple[float, int]:
    """Order sessions: the least loaded comes first, of equal ones that whose turn is longest ago."""
    return session.load, session.turn
