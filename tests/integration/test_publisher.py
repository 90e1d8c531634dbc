"""The publisher on its own: what it says where nobody, or somebody else, answers for JetStream."""

import asyncio
import time

import pytest

from support.broker import broker
from walnatsd.broker import publisher
from walnatsd.broker.own_streams import register_work_stream
from walnatsd.broker.publisher import Begun, PubAck, Publisher
from walnatsd.broker.schedules import Schedules
from walnatsd.broker.wire import Frame
from walnatsd.model.refusal import Reason, Refusal

HEADER = {"Nats-Msg-Id": "u"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.1)


async def test_what_is_refused_after_a_try_that_nobody_answered_may_be_stored(nats) -> None:
    async def admit(again: bool) -> None:
        if again:
            raise Refusal(Reason.NO_ACTORS, "the last actor has gone meanwhile", uid="u")

    async with broker(nats.url) as parts:
        await parts.connection.attach("silent", lambda _frame: None)
        with pytest.raises(Refusal) as caught:
            await Publisher(parts.connection).publish("silent", b"1", HEADER, budget_s=15, admit=admit)
    assert (caught.value.reason, caught.value.maybe_stored) == (Reason.NO_ACTORS, True)


async def test_what_is_under_way_is_not_denied_by_what_its_event_wants_since(nats) -> None:
    """A reload may give the event `min_actors` while the answer to the first try is waited for."""

    async def admit(_again: bool) -> None:
        raise Refusal(Reason.NO_ACTORS, "the event wants an actor now", uid="u")

    async with broker(nats.url) as parts:
        await parts.consumer()
        await parts.connection.attach("silent", lambda _frame: None)
        publisher_ = Publisher(parts.connection)
        begun = publisher_.begin("counts", HEADER, b"1", budget_s=15)
        ack = await publisher_.publish("counts", b"1", HEADER, budget_s=15, begun=begun, admit=admit)
        assert ack.sequence == 1
        begun = publisher_.begin("silent", HEADER, b"1", budget_s=15)
        with pytest.raises(Refusal) as caught:
            await publisher_.publish("silent", b"1", HEADER, budget_s=15, begun=begun, admit=admit)
    assert (caught.value.reason, caught.value.maybe_stored) == (Reason.NO_ACTORS, True)


@pytest.mark.parametrize("word", [b"", b"hello", b"[]", b"7", b'{"thanks": "for the message"}'])
async def test_an_answer_of_somebody_else_is_no_word_of_jetstream(nats, word) -> None:
    """Anybody who may subscribe to an event's subject can answer there; that must end neither an emit nor the daemon."""
    async with broker(nats.url) as parts:
        await parts.consumer()
        heard: list[Frame] = []

        def answer(frame: Frame) -> None:
            heard.append(frame)
            parts.connection.publish(frame.reply, word)

        await parts.connection.attach("other", answer)
        with pytest.raises(Refusal) as caught:
            await Publisher(parts.connection).publish("other", b"1", HEADER, budget_s=0.5)
        assert len(heard) > 1, "it was tried again"
        ack = await Publisher(parts.connection).publish("counts", b"1", HEADER, budget_s=15)
    assert (caught.value.reason, caught.value.maybe_stored) == (Reason.NATS_UNAVAILABLE, True)
    assert "somebody else answered in place of JetStream" in caught.value.message
    assert ack.sequence == 1


async def test_who_waits_for_a_first_try_hears_whether_there_is_more_to_do(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        await parts.connection.attach("silent", lambda _frame: None)
        publisher_ = Publisher(parts.connection)
        wrong = HEADER | {"Nats-Msg-Id": "v", "Nats-Expected-Last-Sequence": "9"}
        begun = publisher_.begin_all("counts", [(HEADER, b"1"), (wrong, b"1")], budget_s=15)
        begun.append(publisher_.begin("silent", HEADER, b"1", budget_s=15))
        acks = []
        for each in begun:
            assert isinstance(each, Begun)
            await each.answered()
            acks.append(each.ack())
        assert acks == [PubAck("counts", 1, duplicate=False), None, None]
        good = begun[0]
        assert isinstance(good, Begun)
        assert (await publisher_.publish("counts", b"1", HEADER, budget_s=15, begun=good)).sequence == 1


async def test_what_is_too_large_among_many_is_refused_in_its_place_and_the_others_leave_in_order(nats) -> None:
    async with broker(nats.url) as parts:
        await parts.consumer()
        bodies = [b"1", bytes(2 << 20), b"2", bytes(2 << 20), b"3"]
        messages = [(HEADER | {"Nats-Msg-Id": str(place)}, body) for place, body in enumerate(bodies)]
        begun = Publisher(parts.connection).begin_all("counts", messages, budget_s=15)
        told = []
        for each in begun:
            if isinstance(each, Begun):
                await each.answered()
                ack = each.ack()
                assert ack is not None
                told.append(ack.sequence)
            else:
                assert each is not None
                told.append((each.reason, each.uid))
    assert told == [1, (Reason.TOO_LARGE, "1"), 2, (Reason.TOO_LARGE, "3"), 3]


async def test_a_message_for_later_that_is_sent_twice_is_no_duplicate_of_itself(nats) -> None:
    """The answer to the first try is lost; nobody else can have had its message id."""
    async with broker(nats.url) as parts:
        await register_work_stream(parts.jetstream, replicas=1)
        schedules = Schedules(parts.jetstream, Publisher(parts.connection))
        due_at = time.time() + 3600
        async with nats.frozen():
            adding = asyncio.create_task(schedules.add("counts", b"1", HEADER, due_at=due_at, budget_s=15))
            await asyncio.wait([adding], timeout=0.5)
        assert await adding is True
        assert await schedules.add("counts", b"2", HEADER, due_at=due_at, budget_s=15) is False
        assert (await parts.jetstream.stream("walnatsd"))["state"]["messages"] == 1


async def test_another_sequence_than_expected_after_a_lost_answer_may_be_our_own_message(nats) -> None:
    """Servers from 2.12 on look at the expected sequence before the id, so a second try is refused because of the first."""
    async with broker(nats.url) as parts:
        await parts.consumer()
        expecting = HEADER | {"Nats-Expected-Last-Sequence": "0"}
        async with nats.frozen():
            publishing = asyncio.create_task(
                Publisher(parts.connection).publish("counts", b"1", expecting, budget_s=15)
            )
            await asyncio.wait([publishing], timeout=0.5)
        with pytest.raises(Refusal) as caught:
            await publishing
        assert (caught.value.reason, caught.value.maybe_stored) == (Reason.SEQUENCE, True)
        assert await parts.unsettled() == 1
        with pytest.raises(Refusal) as caught:
            await Publisher(parts.connection).publish("counts", b"1", {**expecting, "Nats-Msg-Id": "v"}, budget_s=15)
        assert (caught.value.reason, caught.value.maybe_stored) == (Reason.SEQUENCE, False)
