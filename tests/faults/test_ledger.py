"""The ledger finds what is lost, repeated or told wrongly; a check that can't fail proves nothing."""

import pytest

from faults.ledger import Hole, Ledger, Repeat, Sighting


@pytest.fixture
def ledger() -> Ledger:
    """One message on its way to two actors, acknowledged as the first of its stream."""
    ledger = Ledger({"counts": ["audit", "mail"]})
    ledger.emit("a", "counts")
    ledger.acknowledge("a", 1)
    return ledger


def seen(at: float = 1.0, status: int = 204, sequence: int = 1) -> Sighting:
    return Sighting(at, status, sequence)


def handled(ledger: Ledger) -> None:
    ledger.see("a", "audit", seen())
    ledger.see("a", "mail", seen())


def test_a_message_that_all_actors_answered_is_in_order(ledger) -> None:
    handled(ledger)
    ledger.confirm("a", "audit", 2.0)
    found = ledger.findings()
    assert (found.emitted, found.acknowledged, found.sightings) == (1, 1, 2)
    assert [found.lost, found.duplicates, found.after_ack, found.wrong_answers] == [(), 0, (), ()]


def test_an_acknowledged_message_that_one_actor_never_saw_is_lost_for_it(ledger) -> None:
    ledger.see("a", "audit", seen())
    assert ledger.wanting == 1
    assert ledger.findings().lost == (("a", "mail"),)


def test_an_answer_that_is_no_success_does_not_count_as_handled(ledger) -> None:
    handled(ledger)
    ledger.emit("b", "counts")
    ledger.acknowledge("b", 2)
    ledger.see("b", "audit", seen(status=500, sequence=2))
    ledger.see("b", "mail", seen(status=0, sequence=2))
    assert ledger.findings().lost == (("b", "audit"), ("b", "mail"))


def test_an_actor_may_be_called_before_the_emitter_hears(ledger) -> None:
    handled(ledger)
    ledger.emit("b", "counts")
    ledger.see("b", "audit", seen(sequence=2))
    ledger.acknowledge("b", 2)
    ledger.see("b", "mail", seen(sequence=2))
    assert ledger.wanting == 0


def test_what_was_never_acknowledged_may_be_lost_and_is_in_doubt() -> None:
    ledger = Ledger({"counts": ["audit"]})
    ledger.emit("a", "counts")
    ledger.refuse("a", "NATS_UNAVAILABLE: within 15 s", maybe_stored=True)
    found = ledger.findings()
    assert (found.acknowledged, found.refusals, found.in_doubt) == (0, 1, 1)
    assert not found.lost
    assert list(ledger.failures()) == [("a", "NATS_UNAVAILABLE: within 15 s")]
    assert found.refused_because == {"NATS_UNAVAILABLE": 1}


def test_successes_beyond_the_first_are_duplicates(ledger) -> None:
    handled(ledger)
    ledger.see("a", "audit", seen(1.1))
    ledger.see("a", "audit", seen(1.2))
    ledger.see("a", "mail", seen(1.2, status=503))
    assert ledger.findings().duplicates == 2


def test_what_is_seen_after_its_confirmed_ack_is_named(ledger) -> None:
    handled(ledger)
    ledger.confirm("a", "audit", 1.5)
    ledger.confirm("a", "mail", 1.5)
    ledger.see("a", "audit", seen(1.4))  # was under way
    ledger.see("a", "mail", seen(9.5))
    assert ledger.findings().after_ack == (Repeat("a", "mail", 1.5, 8.0),)


def test_what_was_under_way_when_its_ack_was_confirmed_is_a_duplicate(ledger) -> None:
    handled(ledger)
    ledger.confirm("a", "mail", 1.5)
    ledger.see("a", "mail", seen(1.6))
    found = ledger.findings()
    assert (found.after_ack, found.duplicates) == ((), 1)


def test_an_ack_that_was_confirmed_in_a_documented_hole_may_be_forgotten(ledger) -> None:
    handled(ledger)
    ledger.confirm("a", "audit", 1.5)
    ledger.confirm("a", "mail", 2.5)
    ledger.see("a", "audit", seen(9.0))
    ledger.see("a", "mail", seen(9.0))
    ledger.holes.append(Hole(1.0, 2.0, "the server was killed"))
    found = ledger.findings()
    assert (found.forgotten_acks, found.after_ack) == (1, (Repeat("a", "mail", 2.5, 6.5),))


def test_a_message_that_is_seen_though_it_was_refused_for_good_is_a_wrong_answer() -> None:
    ledger = Ledger({"counts": ["audit"]})
    ledger.emit("a", "counts")
    ledger.refuse("a", "BUSY", maybe_stored=False)
    ledger.see("a", "audit", seen())
    assert ledger.findings().wrong_answers == ("audit saw a, whose emitter was told that it is not stored: BUSY",)


def test_a_message_whose_try_is_not_over_may_be_seen() -> None:
    ledger = Ledger({"counts": ["audit"]})
    ledger.emit("a", "counts")
    ledger.see("a", "audit", seen())
    assert not ledger.findings().wrong_answers


def test_a_message_with_two_places_is_stored_twice(ledger) -> None:
    handled(ledger)
    ledger.see("a", "audit", seen(sequence=7))
    assert ledger.findings().wrong_answers == ("a is stored more than once: [1, 7]",)


def test_two_receipts_of_one_uid_must_name_the_same_place(ledger) -> None:
    handled(ledger)
    ledger.acknowledge("a", 3)
    assert ledger.findings().wrong_answers == ("a was acknowledged as 1 and as 3",)


def test_two_messages_can_not_have_one_place(ledger) -> None:
    handled(ledger)
    ledger.emit("b", "counts")
    ledger.acknowledge("b", 1)
    assert "b and a were both acknowledged as 1 of counts" in ledger.findings().wrong_answers


def test_what_nobody_emitted_is_told(ledger) -> None:
    handled(ledger)
    ledger.see("x", "audit", seen(sequence=5))
    assert ledger.findings().wrong_answers == ("audit saw x, which nobody emitted",)


def test_a_settlement_without_a_success_is_told(ledger) -> None:
    ledger.see("a", "audit", seen(status=500))
    ledger.confirm("a", "audit", 2.0)
    assert ledger.findings().wrong_answers == ("a was settled for audit, which never answered it with a success",)


def test_what_an_actor_had_not_handled_when_its_consumer_was_deleted_may_be_gone_and_is_counted(ledger) -> None:
    ledger.begin_to_excuse("mail")
    ledger.emit("b", "counts")
    ledger.acknowledge("b", 2)
    ledger.see("b", "mail", seen(sequence=2))
    ledger.end_excuse("mail")
    assert ledger.gone == 1
    assert ledger.findings().lost == (("a", "audit"), ("b", "audit"))


def test_what_is_emitted_after_a_deleted_consumer_is_there_again_must_arrive(ledger) -> None:
    handled(ledger)
    ledger.begin_to_excuse("mail")
    ledger.end_excuse("mail")
    ledger.emit("b", "counts")
    ledger.acknowledge("b", 2)
    assert ledger.findings().lost == (("b", "audit"), ("b", "mail"))
    assert ledger.gone == 0


def test_a_stream_that_was_deleted_counts_anew(ledger) -> None:
    handled(ledger)
    ledger.forget_sequences("counts")
    ledger.emit("b", "counts")
    ledger.acknowledge("b", 1)
    assert not ledger.findings().wrong_answers
