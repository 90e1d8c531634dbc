"""What an update of a stream may write; the rest is tested on a real server."""

import pytest

from walnatsd.broker.registration import stream_change
from walnatsd.model.event import Event

STREAM = {
    "name": "e",
    "subjects": ["e"],
    "retention": "interest",
    "num_replicas": 3,
    "discard": "old",
    "storage": "file",
}


def test_fewer_replicas_are_refused_unless_forced() -> None:
    event = Event(name="e", replicas=1)
    change = stream_change(event, STREAM, {"messages": 0, "bytes": 0}, force=False)
    assert (change.updated, change.config) == ([], STREAM)
    assert change.drift == [
        "replicas: declared 1, the stream has 3: it would reduce the replicas; walnatsd apply --force writes it"
    ]
    forced = stream_change(event, STREAM, {"messages": 0, "bytes": 0}, force=True)
    assert (forced.updated, forced.drift) == (["replicas"], [])
    assert forced.config == STREAM | {"num_replicas": 1}


def test_replicas_that_are_not_declared_stay_though_the_default_is_one() -> None:
    change = stream_change(Event(name="e"), STREAM, {"messages": 0}, force=True)
    assert (change.updated, change.drift, change.config) == ([], [], STREAM)


def test_more_replicas_are_written() -> None:
    assert stream_change(Event(name="e", replicas=5), STREAM, {"messages": 9}, force=False).updated == ["replicas"]


@pytest.mark.parametrize("force", [False, True])
def test_what_nats_can_not_change_is_drift_even_when_forced(force) -> None:
    change = stream_change(Event(name="e", storage="memory"), STREAM, {"messages": 0}, force=force)
    assert change.drift == ["storage: declared memory, the stream has file: NATS can't change the storage of a stream"]
    assert change.config == STREAM
