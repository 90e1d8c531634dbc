"""Messages in walnatsd's own streams: what is set aside is put back, and what the emitter can't say."""

import string

from hypothesis import given
from hypothesis import strategies as st

from walnatsd.broker.delivery import Delivery
from walnatsd.broker.envelope import Past, enclose, put_back, set_aside
from walnatsd.broker.wire import Frame, head_of
from walnatsd.model.message import Message

ROUTE_REPLY = "$JS.ACK.walnatsd.actor-print-00.{delivered}.900.5.1795558963000799435.0"
STORED_AT = 1795558900.123457

names = st.text(string.ascii_letters + "-", min_size=1, max_size=12)
values = st.text(string.printable.replace("\r", "").replace("\n", ""), max_size=20).map(str.strip)


def message(**header: str) -> Message:
    return Message("parcel.sent", b"body", header, "parcel-sent", 17, STORED_AT, replay=2)


def back(header: dict[str, str], *, delivered: int = 1) -> Delivery:
    frame = Frame("walnatsd.actor.parcel-sent.print", ROUTE_REPLY.format(delivered=delivered), b"body", head_of(header))
    return Delivery.of_route(None, None, "parcel.sent", "parcel-sent", frame)  # type: ignore[arg-type]


@given(st.dictionaries(names | names.map("Nats-{}".format) | names.map("walnats-{}".format), values, max_size=6))
def test_headers_come_back_as_they_were(header: dict[str, str]) -> None:
    assert put_back(set_aside(header)) == header


@given(st.dictionaries(names.map("Nats-{}".format), values, max_size=6))
def test_the_server_finds_nothing_to_act_on(header: dict[str, str]) -> None:
    assert not [name for name in set_aside(header) if name.lower().startswith("nats-")]


def test_a_message_comes_back_from_the_route_as_it_was_with_its_past() -> None:
    sent = message(**{"Nats-Msg-Id": "one", "Nats-TTL": "5s", "ce-subject": "s", "Walnats-Trace": "t"})
    delivery = back(enclose(sent, Past(attempts=3, hand_overs=5, dead_letter=8)))
    assert delivery.message == sent
    assert delivery.message.uid == "one"
    assert delivery.origin == ("parcel-sent", 17)
    assert delivery.key == ("walnatsd", 900)
    assert delivery.is_on_route
    assert (delivery.attempts_before, delivery.hand_overs, delivery.dead_letter) == (3, 6, 8)


def test_what_the_schedule_of_the_server_added_is_not_the_messages() -> None:
    header = enclose(message(), Past()) | {
        "Nats-Scheduler": "x",
        "Nats-Schedule-Next": "purge",
        "Nats-Msg-Id": "park:1",
    }
    assert back(header).message.headers == {}


def test_an_emitter_can_not_pretend_to_have_a_past() -> None:
    spoofed = {"walnatsd-attempts": "19", "Walnatsd-Sequence": "1", "walnatsd-original-Nats-Msg-Id": "other"}
    delivery = back(enclose(message(**spoofed), Past()))
    assert delivery.message.headers == {}
    assert delivery.message.sequence == 17
    assert delivery.attempts_before == 0


def test_a_message_that_somebody_put_on_the_route_by_hand_is_taken_as_it_is() -> None:
    nonsense = {"walnatsd-sequence": "-4", "walnatsd-stored-at": "nan", "walnatsd-attempts": "many", "x": "y"}
    delivery = back(nonsense)
    assert delivery.message.headers == {"x": "y"}
    assert delivery.message.sequence == 900
    assert delivery.message.stored_at == 1795558963.0007994
    assert delivery.attempts_before == 0


def test_a_message_that_was_put_on_the_route_too_early_had_one_hand_over_without_an_attempt() -> None:
    early = enclose(message(), Past(attempts=1)) | {"Walnats-Delay": "1795558990.0"}
    in_time = enclose(message(), Past(attempts=1)) | {"Walnats-Delay": "1795558950.0"}
    assert [back(early, delivered=n).presumed_deferrals for n in (1, 2, 3)] == [0, 1, 1]
    assert back(in_time, delivered=2).presumed_deferrals == 0
    assert back(in_time | {"Walnats-Delay": "soon"}, delivered=2).presumed_deferrals == 0
