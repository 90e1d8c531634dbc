"""What is not traced costs nothing: no span is begun where nothing of it is kept."""

from collections.abc import Sequence

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from walnatsd.model.actor import Actor
from walnatsd.model.attempt import Attempt
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.model.retry import Ack
from walnatsd.model.trace_context import is_left_out
from walnatsd.observe.spans import Tracing

TRACE, SPAN = "a" * 32, "b" * 16
KEPT, LEFT_OUT = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
ACTOR = Actor(name="print", event="counts", url="http://127.0.0.1:1/hook")
OUTCOME = Outcome(Verdict.ACKNOWLEDGED, "204", 204)


class Noting(Sampler):
    """Notes which spans are begun."""

    def __init__(self, of_roots: Sampler) -> None:
        self.begun: list[str] = []
        self._decide = ParentBased(root=of_roots)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self.begun.append(name)
        return self._decide.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return "Noting"


def tracing(sampler: Noting) -> Tracing:
    return Tracing(TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("test"))


def message(traceparent: str | None) -> Message:
    headers = {"Nats-Msg-Id": "one"} | ({"traceparent": traceparent} if traceparent is not None else {})
    return Message("counts", b"1", headers, "counts", 1, 0.0)


def test_nothing_is_begun_in_a_trace_that_is_not_kept() -> None:
    sampler = Noting(ALWAYS_ON)
    it = tracing(sampler)
    headers = message(LEFT_OUT).headers
    assert it.request("counts", headers, "") is None
    assert it.emit("counts", headers, "") is None
    assert it.publish("counts", headers) is None
    assert it.deliver(ACTOR, message(LEFT_OUT), 1) is None
    it.give_up(ACTOR, message(LEFT_OUT), "too late")
    assert sampler.begun == []


def test_a_delivery_that_is_not_kept_begins_no_attempt_and_tells_the_actor_so() -> None:
    sampler = Noting(ALWAYS_OFF)
    delivery = tracing(sampler).deliver(ACTOR, message(None), 1)
    assert delivery is not None
    told = delivery.continued(message(None)).headers["traceparent"]
    delivery.attempted(OUTCOME)
    delivery.settled(Attempt(1, 0.0, 0.1, OUTCOME), Ack())
    assert sampler.begun == ["deliver counts"]
    assert told.split("-")[1] == delivery.id
    assert is_left_out({"traceparent": told})


def test_a_batch_of_which_nothing_is_kept_begins_no_attempt() -> None:
    sampler = Noting(ALWAYS_OFF)
    delivery = tracing(sampler).deliver_batch(ACTOR, [message(None), message(LEFT_OUT)])
    assert is_left_out(delivery.header())
    delivery.attempted(OUTCOME)
    delivery.settled_all([OUTCOME])
    delivery.cancelled()
    assert sampler.begun == ["deliver counts"]


def test_what_is_kept_has_all_of_its_spans() -> None:
    sampler = Noting(ALWAYS_OFF)
    delivery = tracing(sampler).deliver(ACTOR, message(KEPT), 1)
    assert delivery is not None
    delivery.attempted(OUTCOME)
    delivery.settled(Attempt(1, 0.0, 0.1, OUTCOME), Ack())
    assert sampler.begun == ["deliver counts", "POST /hook", "ack counts"]


@pytest.mark.parametrize(
    ("header", "left_out"),
    [
        ({}, False),
        ({"traceparent": LEFT_OUT}, True),
        ({"Traceparent": LEFT_OUT}, True),
        ({"traceparent": KEPT}, False),
        ({"traceparent": f"00-{TRACE}-{SPAN}-02"}, True),  # the random flag alone
        ({"traceparent": f"01-{TRACE}-{SPAN}-00-more"}, True),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-00"}, False),  # no trace, so it begins here
        ({"traceparent": f"00-{TRACE}-{'0' * 16}-00"}, False),
        ({"traceparent": "00-nonsense-00"}, False),
    ],
)
def test_whether_a_trace_is_kept_stands_in_the_flags(header, left_out) -> None:
    assert is_left_out(header) is left_out
