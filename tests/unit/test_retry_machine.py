"""The life of messages as a state machine: handed over, attempted, deferred, parked, by sidecars that die in between.

The handling, its counting of attempts, the decision, deliveries and envelopes are the real ones; server, actor and time are
played. However it goes: attempts are counted, waits follow the policy, a message is given up for its own fault only.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.clock import Clock
from walnatsd.broker.delivery import Delivery
from walnatsd.broker.envelope import Past, enclose
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.wire import Frame, head_of
from walnatsd.dispatch import handling as module
from walnatsd.dispatch.gate import Gate
from walnatsd.dispatch.handling import PARK_OVER_S, UNSTORED_DEAD_LETTER_PAUSE_S, Handling
from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.model.retry import Retry
from walnatsd.observe.metrics import Metrics
from walnatsd.webhook.answers import judge

METRICS = Metrics()
PAUSE_AFTER = 3
STORED_AT = 1000.0
DEFERRED_S = 0.25

statuses = st.sampled_from([204, 500, 500, 429, 503, 503, 422, 422, 422, 410, None, None])
"""None: a listener left before it answered."""
retry_afters = st.none() | st.sampled_from(["0", "1", "55", "600", "nonsense"])


class DiedError(BaseException):
    """The sidecar is killed here."""


@dataclass
class Life:
    """A message, as the server and the model see it."""

    sequence: int
    stream: str = "texts"
    """Where it is: its event's stream, or the route of the actor."""
    place: int = 0
    header: dict[str, str] = field(default_factory=dict)
    hand_overs_here: int = 0
    """Since it came to that stream; the server counts them."""
    hand_overs: int = 0
    used_up: int = 0
    """Hand-overs that were an attempt that counts, or of which that is not known any more."""
    excused_here: int = 0
    """Hand-overs that this sidecar knows to be no attempt that counts."""
    told: list[int] = field(default_factory=list)
    """The attempt numbers that the actor saw."""
    settled_with: str = ""


class RetryMachine(RuleBasedStateMachine):
    @initialize(
        delays=st.lists(st.sampled_from([0, 0.5, 2, 30, 90]), min_size=1, max_size=4),
        jitter=st.sampled_from([0, 0.2, 1]),
        max_attempts=st.none() | st.integers(1, 5),
    )
    def begin(self, delays: list[float], jitter: float, max_attempts: int | None) -> None:
        retry = {"delays": delays, "jitter": jitter, "max_attempts": max_attempts}
        self.actor = Actor.model_validate(
            {
                "name": "print",
                "event": "texts",
                "url": "http://127.0.0.1:1/",
                "retry": retry,
                "breaker": {"consecutive": 99},
            }
        )
        self.policy = self.actor.retry_policy
        self.clock = Clock(STORED_AT)
        self.loop = asyncio.new_event_loop()
        self.lives: list[Life] = []
        self.parked = 0
        self.buried: dict[int, dict[str, Any]] = {}
        self.can_bury = True
        self.rejections_in_a_row = 0
        self.pauses = self.expected_pauses = 0
        self.next_outcome = Outcome(Verdict.ACKNOWLEDGED, "")
        self.dies_before_settling = False
        self.words: list[bytes] = []
        self.start_sidecar()

    def start_sidecar(self) -> None:
        played: Any = self
        shared: Any = SimpleNamespace(
            metrics=METRICS,
            dead_letters=self,
            route=self,
            pause_after=PAUSE_AFTER,
            reply_prefixes=(),
            tracing=None,
            reports=None,
        )
        gate = Gate(self.actor, lambda: 100, self.clock)
        self.handling = Handling(self.actor, played, shared, gate, pause=self.pause, gate_changed=lambda: None)
        self.rejections_in_a_row = 0
        for life in self.lives:  # its knowledge died with it
            life.used_up += life.excused_here
            life.excused_here = 0

    # ---- who is played: the actor, the dead-letter stream, the route, the connection

    async def attempt(self, message: Message, attempt: int) -> Outcome:
        life = self.lives[message.sequence - 1]
        assert message.headers == {"own": str(message.sequence)}
        assert not life.settled_with
        assert attempt == life.used_up + 1, f"attempt {attempt}, but {life.used_up} are used up"
        assert attempt >= max(life.told, default=1)
        life.told.append(attempt)
        return self.next_outcome

    async def store(self, message: Message, death: Any) -> None:
        if not self.can_bury:
            raise Refusal(Reason.NATS_UNAVAILABLE, "the dead-letter stream is away")
        self.buried[message.sequence] = {"attempts": death.attempts, "history": death.history}

    has_schedules = True

    async def park(self, consumer: str, delivery: Delivery, *, until: float, attempts: int) -> None:
        assert consumer == "print"
        if self.dies_before_settling:
            raise DiedError
        life = self.lives[delivery.message.sequence - 1]
        self.parked += 1
        self.waited_s = until - self.clock()
        life.header = enclose(delivery.message, Past(attempts, delivery.hand_overs))
        life.stream, life.place, life.hand_overs_here = WORK, self.parked, 0

    async def request(self, _reply: str, word: bytes, *, timeout_s: float) -> Frame:
        assert timeout_s > 0
        if self.dies_before_settling:
            raise DiedError
        self.words.append(word)
        return Frame("", "", b"", b"")

    async def pause(self, _reason: str) -> bool:
        self.pauses += 1
        return True

    # ---- what can happen

    @rule(count=st.integers(1, 4))
    def somebody_emits(self, count: int) -> None:
        for _ in range(count):
            sequence = len(self.lives) + 1
            self.lives.append(Life(sequence, place=sequence, header={"own": str(sequence)}))

    @rule(available=st.booleans())
    def the_dead_letter_stream_comes_and_goes(self, available: bool) -> None:
        self.can_bury = available

    @rule(seconds=st.sampled_from([0.1, 3]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def the_sidecar_dies(self) -> None:
        self.start_sidecar()

    @precondition(lambda self: self.open_lives())
    @rule(data=st.data())
    def a_message_is_deferred(self, data: st.DataObject) -> None:
        """The gate has shut, a slot is missing, its time has not come."""
        life, delivery = self.hand_over(data)
        self.run(self.handling.settle(delivery, Retry(DEFERRED_S, counts=False)))
        assert self.take_words() == [nak_of(DEFERRED_S)]
        life.excused_here += 1

    @precondition(lambda self: self.open_lives())
    @rule(data=st.data())
    def the_sidecar_dies_with_a_message_in_its_hands(self, data: st.DataObject) -> None:
        life, _ = self.hand_over(data)
        life.used_up += 1  # nobody knows whether there was an attempt
        self.start_sidecar()

    @precondition(lambda self: self.open_lives())
    @rule(data=st.data(), status=statuses, retry_after=retry_afters)
    def the_sidecar_dies_between_answer_and_settlement(
        self, data: st.DataObject, status: int | None, retry_after: str | None
    ) -> None:
        life, delivery = self.hand_over(data)
        self.next_outcome = outcome_of(status, retry_after)
        self.dies_before_settling = True
        with contextlib.suppress(DiedError):
            self.run(self.handling.handle(delivery, delivery.message))
            raise AssertionError("it settled without asking the server")
        self.dies_before_settling = False
        self.pauses = self.expected_pauses  # it may have been said, or not
        life.used_up += 1
        self.start_sidecar()

    @rule(data=st.data(), answers=st.lists(st.tuples(statuses, retry_afters), min_size=1, max_size=8))
    def messages_are_attempted(self, data: st.DataObject, answers: list[tuple[int | None, str | None]]) -> None:
        for status, retry_after in answers:
            if self.open_lives():
                life, delivery = self.hand_over(data)
                self.attempt_it(life, delivery, outcome_of(status, retry_after))

    # ---- what must follow

    def attempt_it(self, life: Life, delivery: Delivery, outcome: Outcome) -> None:
        self.next_outcome = outcome
        number = life.used_up + 1
        is_last = self.policy.max_attempts is not None and number >= self.policy.max_attempts
        self.waited_s = None
        self.clock.advance(2 * module.PAUSED_JUST_NOW_S)  # a pause of a moment ago stands for this one
        was_at, was_buried = (life.stream, life.place), life.sequence in self.buried
        self.run(self.handling.handle(delivery, delivery.message))
        match outcome.verdict:
            case Verdict.ACKNOWLEDGED:
                self.expect_settled(life, b"+ACK")
            case Verdict.REJECTED:
                self.expect_buried(life, number, outcome)
            case Verdict.FAILED if is_last:
                self.expect_buried(life, number, outcome)
            case Verdict.FAILED:
                life.used_up += 1
                self.expect_wait(life, number, outcome, was_at)
            case Verdict.UNAVAILABLE:
                life.excused_here += 1
                self.expect_wait(life, life.hand_overs, outcome, was_at)
            case Verdict.HANDED_BACK:
                life.excused_here += 1
                assert self.take_words() == [b"-NAK"]
            case Verdict.GONE:
                life.excused_here += 1
                self.expected_pauses += 1
                self.rejections_in_a_row = 0
                assert self.take_words() == [b"-NAK"]
        if outcome.verdict not in (Verdict.REJECTED, Verdict.FAILED):
            assert was_buried == (life.sequence in self.buried), "given up for what is no fault of the message"
        self.count_rejections(outcome)

    def has_moved(self, life: Life, was_at: tuple[str, int]) -> bool:
        return (life.stream, life.place) != was_at

    def expect_wait(self, life: Life, tries: int, outcome: Outcome, was_at: tuple[str, int]) -> None:
        delay_s = self.policy.delays[min(tries, len(self.policy.delays)) - 1]
        asked_s = outcome.retry_after_s or 0.0
        least = max(delay_s * (1 - self.policy.jitter), asked_s)
        most = max(delay_s * (1 + self.policy.jitter), asked_s)
        if self.has_moved(life, was_at):
            life.excused_here = 0  # it took its count along
            assert self.take_words() == [b"+ACK"]
            assert self.waited_s is not None
            waited_s = self.waited_s
            assert waited_s > PARK_OVER_S
        else:
            [word] = self.take_words()
            waited_s = waited_by(word)
            assert waited_s <= PARK_OVER_S, "it waits long in its consumer"
        assert least - 1e-6 <= waited_s <= most + 1e-6

    def expect_buried(self, life: Life, number: int, outcome: Outcome) -> None:
        if not self.can_bury:
            life.used_up += 1
            assert self.take_words() == [nak_of(UNSTORED_DEAD_LETTER_PAUSE_S)], "it is given up and stored nowhere"
            return
        self.expect_settled(life, b"+TERM")
        letter = self.buried[life.sequence]
        assert letter["attempts"] == number
        assert letter["history"]["attempts"][-1]["status"] == outcome.status
        if letter["history"]["complete"]:
            assert [each["attempt"] for each in letter["history"]["attempts"]] == life.told

    def expect_settled(self, life: Life, word: bytes) -> None:
        [said] = self.take_words()
        assert said.startswith(word)
        life.settled_with = word.decode()

    def count_rejections(self, outcome: Outcome) -> None:
        """An actor that rejects everything is broken; whether it is there, or a listener leaves, says nothing about that."""
        match outcome.verdict:
            case Verdict.REJECTED:
                self.rejections_in_a_row += 1
            case Verdict.ACKNOWLEDGED | Verdict.FAILED:
                self.rejections_in_a_row = 0
        if self.rejections_in_a_row == PAUSE_AFTER:
            self.expected_pauses += 1
            self.rejections_in_a_row = 0

    @invariant()
    def the_actor_is_paused_as_often_as_it_must(self) -> None:
        if hasattr(self, "pauses"):
            assert self.pauses == self.expected_pauses

    @invariant()
    def what_is_terminated_is_a_dead_letter(self) -> None:
        for life in getattr(self, "lives", []):
            if life.settled_with == "+TERM":
                assert life.sequence in self.buried

    # ---- how it is done

    def open_lives(self) -> list[Life]:
        return [life for life in self.lives if not life.settled_with]

    def hand_over(self, data: st.DataObject) -> tuple[Life, Delivery]:
        life = data.draw(st.sampled_from(self.open_lives()), label="which")
        return life, self.deliver(life)

    def deliver(self, life: Life) -> Delivery:
        life.hand_overs += 1
        life.hand_overs_here += 1
        consumer, stored_ns = "print", int(STORED_AT * 1e9)
        reply = f"$JS.ACK.{life.stream}.{consumer}.{life.hand_overs_here}.{life.place}.1.{stored_ns}.0"
        frame = Frame("texts", reply, b"7", head_of(life.header))
        connection: Any = self
        if life.stream == WORK:
            return Delivery.of_route(connection, connection, "texts", "texts", frame)
        return Delivery.of_event(connection, connection, "texts", frame)

    def run(self, work: Any) -> None:
        played = SimpleNamespace(time=self.clock, monotonic=self.clock, perf_counter=self.clock)
        with mock.patch.object(module, "time", played):
            self.loop.run_until_complete(work)

    def take_words(self) -> list[bytes]:
        words, self.words = self.words, []
        return words

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.can_bury = True
            failed = outcome_of(500, None)
            for life in self.open_lives():
                for _ in range(self.policy.max_attempts or 0):
                    if not life.settled_with:
                        self.attempt_it(life, self.deliver(life), failed)
                if self.policy.max_attempts is None:
                    for _ in range(7):
                        self.attempt_it(life, self.deliver(life), failed)
                    self.attempt_it(life, self.deliver(life), outcome_of(204, None))
                assert life.settled_with, "it is tried more often than the policy says"
            attempts = self.handling.attempts
            assert not attempts._deferrals, "what is settled is still remembered"
            assert not attempts._seen
        finally:
            self.loop.close()


def outcome_of(status: int | None, retry_after: str | None) -> Outcome:
    if status is None:
        return Outcome(Verdict.HANDED_BACK, "the listener left")
    return judge(status, retry_after, "", now=STORED_AT)


def nak_of(seconds: float) -> bytes:
    return b'-NAK {"delay": %d}' % (seconds * 1e9)


def waited_by(word: bytes) -> float:
    """How long a nak has the server wait."""
    assert word.startswith(b"-NAK")
    return json.loads(word[4:])["delay"] / 1e9 if word != b"-NAK" else 0.0


TestRetries = RetryMachine.TestCase
TestRetries.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
