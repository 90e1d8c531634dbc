"""`connect`, `register` and `emit` against a real gRPC server that plays the sidecar."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2

import walnatsd_client as walnatsd
from emit_sidecar import Context, Sidecar, refuse_with
from walnatsd_client._proto import actors_pb2, events_pb2

COUNT = walnatsd.Event("counts", int)


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


async def test_an_emit_carries_payload_content_type_and_options_and_returns_a_receipt(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    receipt = await conn.emit(
        COUNT, 1, uid="one", trace_id="trace", delay=1.5, headers={"ce-subject": "s"}, expected_last_sequence=0
    )
    assert receipt == walnatsd.Receipt("one", "counts", sequence=1, duplicate=False, scheduled=False, spooled=False)
    assert sidecar.emitted == [
        events_pb2.EmitRequest(
            event="counts",
            payload=b"1",
            content_type="application/json",
            uid="one",
            trace_id="trace",
            delay=Duration(seconds=1, nanos=500_000_000),
            headers={"ce-subject": "s"},
            expected_last_sequence=0,
        )
    ]


async def test_the_same_uid_again_is_told_to_be_a_duplicate(conn: walnatsd.Connection) -> None:
    first, second = await conn.emit(COUNT, 1, uid="one"), await conn.emit(COUNT, 1, uid="one")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.sequence == second.sequence


async def test_every_emit_without_a_uid_gets_one_of_its_own(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    receipts = await asyncio.gather(*(conn.emit(COUNT, n) for n in range(20)))
    assert len({receipt.uid for receipt in receipts}) == 20
    assert not sidecar.emitted[0].HasField("expected_last_sequence")


async def test_a_payload_that_no_server_takes_is_refused_and_not_sent(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    with pytest.raises(walnatsd.InvalidError) as caught:
        await conn.emit(walnatsd.Event("counts", bytes), bytes((64 << 20) + 1), uid="one")
    assert (caught.value.reason, caught.value.uid, caught.value.maybe_stored) == ("TOO_LARGE", "one", False)
    assert sidecar.emitted == []


async def test_an_empty_uid_is_none_so_that_a_try_again_is_safe(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await conn.emit(COUNT, 1, uid="")
    assert sidecar.emitted[0].uid


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), 1e300])
async def test_a_delay_that_is_no_time_is_refused_in_words(
    sidecar: Sidecar, conn: walnatsd.Connection, delay: float
) -> None:
    with pytest.raises(ValueError, match="is no number of seconds that can be sent"):
        await conn.emit(COUNT, 1, delay=delay)
    assert sidecar.emitted == []


async def test_a_header_that_is_no_text_is_named(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    with pytest.raises(TypeError, match="'attempts': 3"):
        await conn.emit(COUNT, 1, headers={"attempts": 3})  # type: ignore[dict-item]
    assert sidecar.emitted == []


async def test_the_sidecar_derives_the_uid_of_a_cloudevent_with_source_and_id(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    await conn.emit(COUNT, 1, headers={"CE-Source": "/a", "ce-id": "7"})
    await conn.emit(COUNT, 1, headers={"ce-id": "7"})
    assert [bool(request.uid) for request in sidecar.emitted] == [False, True]


async def test_deliver_at_is_sent_as_an_instant(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    instant = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    await conn.emit(COUNT, 1, deliver_at=instant)
    assert sidecar.emitted[0].deliver_at.ToDatetime(UTC) == instant


async def test_a_time_without_a_zone_or_two_times_are_refused_before_anything_is_sent(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await conn.emit(COUNT, 1, deliver_at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the mistake
    with pytest.raises(ValueError, match="either"):
        await conn.emit(COUNT, 1, deliver_at=datetime(2030, 1, 1, tzinfo=UTC), delay=1)
    assert sidecar.emitted == []


async def test_an_emit_waits_for_a_sidecar_that_starts_later_on_a_unix_socket(sidecar: Sidecar, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn, asyncio.TaskGroup() as tasks:
        emit = tasks.create_task(conn.emit(COUNT, 1))
        with pytest.raises(walnatsd.UnavailableError):  # by now the other emit has found nobody
            await conn.emit(COUNT, 2, timeout=0.1)
        async with sidecar.serve(address):
            assert (await emit).sequence == 1


async def test_a_connection_lost_after_storing_is_retried_under_the_same_uid_and_stored_once(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    stored = asyncio.Event()

    async def store_and_hang(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        await sidecar.store(request, context)
        stored.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn, asyncio.TaskGroup() as tasks:
        sidecar.emit = store_and_hang
        async with sidecar.serve(address):
            emit = tasks.create_task(conn.emit(COUNT, 1))
            await stored.wait()
        sidecar.emit = sidecar.store
        async with sidecar.serve(address):
            receipt = await emit
    assert receipt.duplicate
    assert sidecar.stored == {receipt.uid: 1}
    assert {request.uid for request in sidecar.emitted} == {receipt.uid}


async def test_a_refusal_after_a_lost_connection_does_not_claim_that_nothing_was_stored(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    arrived = asyncio.Event()

    async def hang(_: events_pb2.EmitRequest, __: Context) -> events_pb2.EmitResponse:
        arrived.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn:
        sidecar.emit = hang
        async with sidecar.serve(address):
            emit = asyncio.create_task(conn.emit(COUNT, 1))
            await arrived.wait()
        sidecar.emit = refuse_with("EVENT_FULL", code=grpc.StatusCode.RESOURCE_EXHAUSTED, maybe_stored="false")
        async with sidecar.serve(address):
            with pytest.raises(walnatsd.CapacityError) as caught:
                await emit
    assert caught.value.maybe_stored


async def test_without_a_sidecar_the_error_says_that_nothing_was_stored(tmp_path: Path) -> None:
    async with walnatsd.connect(f"unix:{tmp_path}/nobody.sock") as conn:
        with pytest.raises(walnatsd.UnavailableError) as caught:
            await conn.emit(COUNT, 1, uid="one", timeout=0.1)
    assert (caught.value.reason, caught.value.uid, caught.value.maybe_stored) == ("SIDECAR_UNAVAILABLE", "one", False)


async def test_without_an_answer_in_time_the_error_says_that_it_may_be_stored_and_under_which_uid(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    async def hang(_: events_pb2.EmitRequest, __: Context) -> events_pb2.EmitResponse:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    sidecar.emit = hang
    with pytest.raises(walnatsd.UnavailableError) as caught:
        await conn.emit(COUNT, 1, timeout=0.2)
    assert caught.value.maybe_stored
    assert caught.value.uid == sidecar.emitted[0].uid


async def test_the_sidecar_is_told_how_long_the_caller_waits(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    remaining: list[float] = []

    async def look(request: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        remaining.append(context.time_remaining())
        return await sidecar.store(request, context)

    sidecar.emit = look
    await conn.emit(COUNT, 1, timeout=7)
    assert 0 < remaining[0] < 8  # on the way it is rounded up


@pytest.mark.parametrize(
    ("reason", "code", "family"),
    [
        ("UNKNOWN_EVENT", grpc.StatusCode.NOT_FOUND, walnatsd.UnknownEventError),
        ("INVALID_UID", grpc.StatusCode.INVALID_ARGUMENT, walnatsd.InvalidError),
        ("SCHEMA", grpc.StatusCode.INVALID_ARGUMENT, walnatsd.InvalidError),
        ("TOO_LARGE", grpc.StatusCode.INVALID_ARGUMENT, walnatsd.InvalidError),
        ("NO_ACTORS", grpc.StatusCode.FAILED_PRECONDITION, walnatsd.ConflictError),
        ("SEQUENCE", grpc.StatusCode.ABORTED, walnatsd.ConflictError),
        ("CONFLICT", grpc.StatusCode.FAILED_PRECONDITION, walnatsd.ConflictError),
        ("EVENT_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED, walnatsd.CapacityError),
        ("BUSY", grpc.StatusCode.RESOURCE_EXHAUSTED, walnatsd.CapacityError),
        ("NATS_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE, walnatsd.UnavailableError),
        ("TOKEN", grpc.StatusCode.UNAUTHENTICATED, walnatsd.AccessError),
        ("SCOPE", grpc.StatusCode.PERMISSION_DENIED, walnatsd.AccessError),
        ("SERVER_VERSION", grpc.StatusCode.UNIMPLEMENTED, walnatsd.UnsupportedError),
        ("NOT_SUPPORTED", grpc.StatusCode.UNIMPLEMENTED, walnatsd.UnsupportedError),
        ("OF_A_LATER_VERSION", grpc.StatusCode.INTERNAL, walnatsd.WalnatsdError),
    ],
)
async def test_a_refusal_raises_the_error_of_its_reason_and_is_not_tried_again(
    sidecar: Sidecar,
    conn: walnatsd.Connection,
    reason: str,
    code: grpc.StatusCode,
    family: type[walnatsd.WalnatsdError],
) -> None:
    sidecar.emit = refuse_with(reason, code=code, maybe_stored="true", retry_s=3)
    with pytest.raises(walnatsd.WalnatsdError) as caught:
        await conn.emit(COUNT, 1, uid="one")
    error = caught.value
    assert type(error) is family
    assert (error.reason, error.message, error.uid, error.maybe_stored) == (reason, "because", "one", True)
    assert error.retry_after == 3
    assert len(sidecar.emitted) == 1


async def test_a_refusal_that_stored_nothing_says_so(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    sidecar.emit = refuse_with("BUSY", code=grpc.StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(walnatsd.CapacityError, match="BUSY: because") as caught:
        await conn.emit(COUNT, 1)
    assert not caught.value.maybe_stored
    assert caught.value.retry_after is None


async def test_a_call_that_breaks_without_an_answer_is_named_by_its_grpc_status(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    async def break_down(_: events_pb2.EmitRequest, context: Context) -> events_pb2.EmitResponse:
        await context.abort(grpc.StatusCode.INTERNAL, "oh")
        raise AssertionError

    sidecar.emit = break_down
    with pytest.raises(walnatsd.WalnatsdError) as caught:
        await conn.emit(COUNT, 1)
    assert (type(caught.value), caught.value.reason) == (walnatsd.WalnatsdError, code_pb2.Code.Name(13))
    assert caught.value.maybe_stored


async def test_registering_an_actor_declares_its_event_first_and_once(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    actors = [walnatsd.Actor(name, COUNT, print) for name in ("a", "b")]
    registered = await conn.register(actors[0], COUNT, actors[1])
    assert [declared.name for declared in sidecar.registered] == ["counts", "a", "b"]
    assert registered == (
        walnatsd.Registered(COUNT, created=True, updated=(), drift=("storage: file",)),
        walnatsd.Registered(actors[0], created=False, updated=("ack_wait",), drift=()),
        walnatsd.Registered(actors[1], created=False, updated=("ack_wait",), drift=()),
    )


async def test_what_is_not_declared_is_not_sent(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    await conn.register(walnatsd.Actor("print", COUNT, print))
    assert sidecar.registered == [
        events_pb2.Event(name="counts", limits=events_pb2.Limits()),
        actors_pb2.Actor(name="print", event="counts"),
    ]


async def test_every_option_of_a_declaration_is_sent(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    event = walnatsd.Event(
        "counts",
        int,
        description="d",
        limits=walnatsd.Limits(age=1.5, consumers=2, messages=3, bytes=4, message_size=5, when_full="refuse"),
        duplicate_window=6,
        replicas=3,
        storage="memory",
        min_actors=0,
    )
    actor = walnatsd.Actor(
        "print",
        event,
        print,
        url="http://127.0.0.1:8000/",
        description="d",
        start="new",
        ack_wait=1,
        max_ack_pending=2,
        max_jobs=3,
        job_timeout=0.5,
        pulse=False,
        priority="high",
        retry=walnatsd.RetryPolicy(delays=(0.25, 1), jitter=0, max_attempts=7),
        rate_limit=walnatsd.RateLimit(8, 60),
        match_time=walnatsd.MatchTime(year=(2030,), month=(1,), day=(2,), hour=(0,), minute=(0, 30)),
        filter="true",
        order_by=walnatsd.OrderHeader("ce-partitionkey"),
        wait_for="http://127.0.0.1:8000/healthz",
        headers={"X-Team": "logistics"},
        breaker=walnatsd.Breaker(
            window=1, min_attempts=2, failure_ratio=0.5, consecutive=3, open_for=4, max_open_for=5
        ),
    )
    await conn.register(actor)
    sent_event, sent_actor = sidecar.registered
    assert [
        field.name for field in events_pb2.Event.DESCRIPTOR.fields if field not in dict(sent_event.ListFields())
    ] == []
    left_out = [
        field.name for field in actors_pb2.Actor.DESCRIPTOR.fields if field not in dict(sent_actor.ListFields())
    ]
    assert left_out == ["responds", "batch"]  # they come with what answers them
    assert sent_event.limits.age == Duration(seconds=1, nanos=500_000_000)
    assert list(sent_actor.retry.delays) == [Duration(nanos=250_000_000), Duration(seconds=1)]
    assert (sent_actor.retry.jitter, sent_actor.retry.max_attempts, sent_actor.retry.unlimited) == (0, 7, False)
    assert sent_actor.order_by.header == "ce-partitionkey"


async def test_a_json_pointer_and_unlimited_retries_are_sent_as_such(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    policy = walnatsd.RetryPolicy(unlimited=True)
    await conn.register(walnatsd.Actor("print", COUNT, print, order_by="/id", retry=policy))
    assert sidecar.registered[1].order_by.pointer == "/id"
    assert sidecar.registered[1].retry == actors_pb2.Retry(unlimited=True)


async def test_two_different_declarations_of_one_event_are_refused(conn: walnatsd.Connection) -> None:
    with pytest.raises(ValueError, match="counts differ"):
        await conn.register(COUNT, walnatsd.Event("counts", str))


def test_a_retry_policy_is_limited_or_not_but_not_both() -> None:
    with pytest.raises(ValueError, match="either"):
        walnatsd.RetryPolicy(max_attempts=3, unlimited=True)


async def test_the_emit_example_of_the_readme_runs(sidecar: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    [example] = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "# emit.py" in block]
    names: dict[str, object] = {"__name__": "emit"}
    async with sidecar.serve("127.0.0.1:0") as target:
        exec(example.replace("127.0.0.1:7520", target), names)
        await names["main"]()  # type: ignore[operator]
    assert [request.payload for request in sidecar.emitted] == [b"1"]
    assert sidecar.emitted[0].uid in capsys.readouterr().out
