"""What is written by hand for each emit is what protobuf reads, and would have written."""

import os
import subprocess
import sys

import pytest

import walnatsd_client as walnatsd
from walnatsd_client._emit_request import emit_request
from walnatsd_client._proto import events_pb2
from walnatsd_client._uid import new_uid
from walnatsd_client._wire import ITEM_OVERHEAD_BYTES, emit_batch

LENGTHS = (0, 1, 127, 128, 16_383, 16_384, 300_000, 3_000_000)
BLOB = walnatsd.Event("parcels.sent", bytes)

CHILD = """
import os
from walnatsd_client._uid import new_uid

parent = {new_uid() for _ in range(10)}
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, " ".join(new_uid() for _ in range(10)).encode())
    os._exit(0)
os.wait()
child = set(os.read(reader, 4096).decode().split())
parent |= {new_uid() for _ in range(300)}
assert len(child) == 10 and not child & parent, (child, parent)
"""


def written(payload: bytes, uid: str | None = None, **options: object) -> bytes:
    given: dict[str, object] = {
        "trace_id": None,
        "headers": None,
        "meta": None,
        "expected_last_sequence": None,
        "delay": None,
        "deliver_at": None,
    }
    return emit_request(BLOB, payload, uid=uid, **(given | options))[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_with_nothing_but_a_payload_and_a_uid_is_what_protobuf_writes(length: int) -> None:
    expected = events_pb2.EmitRequest(
        event="parcels.sent", payload=bytes(length), content_type="application/octet-stream", uid="seven \u2603"
    )
    assert events_pb2.EmitRequest.FromString(written(bytes(length), "seven \u2603")) == expected


def test_a_batch_of_written_messages_is_what_protobuf_writes() -> None:
    emits = [written(bytes(length), f"uid-{length}") for length in LENGTHS]
    expected = events_pb2.EmitBatchRequest(items=map(events_pb2.EmitRequest.FromString, emits))
    assert events_pb2.EmitBatchRequest.FromString(emit_batch(emits)) == expected
    assert len(emit_batch(emits)) <= sum(len(emit) + ITEM_OVERHEAD_BYTES for emit in emits)


def test_all_else_that_a_message_may_have_is_written_too() -> None:
    read = events_pb2.EmitRequest.FromString(
        written(b"7", "seven", trace_id="t", headers={"x": "y"}, expected_last_sequence=0, delay=1.5)
    )
    assert (read.event, read.payload, read.uid, read.trace_id, dict(read.headers)) == (
        "parcels.sent", b"7", "seven", "t", {"x": "y"}
    )  # fmt: skip
    assert read.HasField("expected_last_sequence")
    assert read.delay.ToNanoseconds() == 1_500_000_000


class Careless:
    """A serializer that gives what it was given."""

    content_type = "application/json"

    def encode(self, message: object) -> bytes:
        return message  # type: ignore[return-value]

    def decode(self, payload: bytes) -> object:
        return payload


@pytest.mark.parametrize(("payload", "uid"), [("text", None), (7, None), (b"7", 7)])
def test_a_payload_or_a_uid_of_another_type_is_a_type_error(payload: object, uid: object) -> None:
    event = walnatsd.Event("counts", object, serializer=Careless())
    with pytest.raises(TypeError):
        emit_request(
            event, payload, uid=uid, trace_id=None, headers=None, meta=None, expected_last_sequence=None,  # type: ignore[arg-type]
        )  # fmt: skip


def test_uids_are_new() -> None:
    uids = [new_uid() for _ in range(1000)]
    assert len(set(uids)) == 1000
    assert {len(uid) for uid in uids} == {32}
    assert all(set(uid) <= set("0123456789abcdef") for uid in uids)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes don't fork here")
def test_a_forked_process_gives_other_uids_than_its_parent() -> None:
    subprocess.run([sys.executable, "-c", CHILD], check=True, timeout=60)
