"""What the log of a sidecar says of acks is what the ledger takes for NATS' word: no more than that."""

from datetime import UTC, datetime
from typing import Any

import pytest

from faults.ledger import Ledger, Sighting
from faults.sidecar import Sidecar, SidecarLog
from faults.standstill import STOOD_STILL, StandStill
from walnatsd.broker.delivery import FORGOTTEN, GONE, REPLACED

LATE = 30.0
"""Seconds after which a message is seen again."""


@pytest.fixture
def log(ledger) -> SidecarLog:
    return SidecarLog("sidecar-1", ledger)


def attempt(at: float = 2.0, decision: str = "Ack", number: int = 1) -> dict[str, Any]:
    timestamp = datetime.fromtimestamp(at, UTC).isoformat()
    return {
        "message": "attempt", "event": "counts", "actor": "audit", "uid": "a", "sequence": 1, "attempt": number,
        "decision": decision, "duration_ms": 250.0, "timestamp": timestamp,
    }  # fmt: skip


def let_go(why: str) -> dict[str, Any]:
    return {"message": why, "stream": "counts", "consumer": "audit", "sequence": 1}


def seen_after_ack(ledger: Ledger) -> int:
    """How many messages are found that were seen again though NATS had confirmed, when it is called once more."""
    ledger.see("a", "audit", Sighting(LATE, 204, 1))
    return len(ledger.findings().after_ack)


def test_an_ack_that_is_logged_was_confirmed(ledger, log) -> None:
    log.read(attempt())
    assert seen_after_ack(ledger) == 1


@pytest.mark.parametrize("why", [FORGOTTEN, GONE, REPLACED])
def test_an_ack_that_was_let_go_was_not_confirmed(ledger, log, why: str) -> None:
    log.read(let_go(why))
    log.read(attempt())
    assert seen_after_ack(ledger) == 0


@pytest.mark.parametrize("why", [FORGOTTEN, GONE, REPLACED])
def test_after_an_ack_that_was_let_go_the_next_one_counts_again(ledger, log, why: str) -> None:
    log.read(let_go(why))
    log.read(attempt())
    log.read(attempt(3.0, number=2))
    assert seen_after_ack(ledger) == 1


def test_a_nak_that_was_let_go_takes_nothing_from_the_ack_of_the_next_attempt(ledger, log) -> None:
    log.read(let_go(GONE))
    log.read(attempt(decision="Retry"))
    log.read(attempt(3.0, number=2))
    assert seen_after_ack(ledger) == 1


def test_what_a_killed_sidecar_let_go_and_said_no_more_about_is_forgotten_when_it_comes_back(ledger, log) -> None:
    log.read(let_go(GONE))
    log.read({"message": "listening"})
    log.read(attempt())
    assert seen_after_ack(ledger) == 1


def test_what_another_sidecar_let_go_does_not_matter(ledger, log) -> None:
    SidecarLog("sidecar-2", ledger).read(let_go(GONE))
    log.read(attempt())
    assert seen_after_ack(ledger) == 1


def test_a_finding_has_all_attempts_at_its_message(ledger, log) -> None:
    log.read(attempt(decision="Retry"))
    log.read(attempt(3.0, number=2))
    other = SidecarLog("sidecar-2", ledger)
    other.read(let_go(GONE))
    other.read(attempt(31.0, number=3))
    ledger.see("a", "audit", Sighting(LATE, 204, 1))
    [repeat] = ledger.findings().after_ack
    assert [(each.sidecar, each.number, each.settled_at, each.decision) for each in repeat.attempts] == [
        ("sidecar-1", 1, 2.0, "Retry"),
        ("sidecar-1", 2, 3.0, "Ack"),
        ("sidecar-2", 3, 31.0, "Ack, let go"),
    ]
    assert {each.took_s for each in repeat.attempts} == {0.25}


def test_when_a_sidecar_stood_still_is_kept_apart_from_its_log(tmp_path, ledger) -> None:
    sidecar = Sidecar("sidecar-1", tmp_path, tmp_path, ledger, [], "", "")
    sidecar.take({"message": STOOD_STILL, "until": 9.0, "for_s": 6.5})
    assert sidecar.stand_stills == [StandStill(9.0, 6.5)]
    assert not sidecar.lines
