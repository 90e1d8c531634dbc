"""Emitting while NATS is away with a spool: kept on disk, forwarded in order, refused where it would be refused later."""

import asyncio
import base64
import time

import pytest
from cryptography.fernet import Fernet

from support.commands import walnatsd
from support.daemon import Sidecar, config_text, process, running
from support.doors import both_doors, door, receipt, refusal
from support.grpc_calls import stubs
from support.outages import config, is_forwarded, spool_status, waiting
from support.streams import stored
from support.waiting import until
from walnatsd.broker import publisher
from walnatsd.v1 import events_pb2

UNAVAILABLE = {"grpc": "UNAVAILABLE", "http": "503"}


async def numbers(nats, stream: str = "counts") -> list[int]:
    return [int(payload) for payload, _ in await stored(nats, stream)]


@both_doors
async def test_while_nats_is_away_emits_are_kept_and_when_it_is_back_they_are_stored_in_order(
    nats, kind, tmp_path
) -> None:
    async with running(config(nats, tmp_path)) as sidecar, door(kind, sidecar) as emitter:
        receipt(await emitter.emit("counts", b"0"))
        await nats.stop()
        await until(lambda: _is_away(sidecar))
        for number in range(1, 30):
            answer = receipt(await emitter.emit("counts", b"%d" % number, uid=f"u{number}"))
            assert (answer["uid"], answer["stream"], answer["spooled"]) == (f"u{number}", "counts", True)
            assert (answer["duplicate"], answer["scheduled"]) == (False, False)
        assert await waiting(sidecar) == 29
        assert 0 < (await sidecar.metrics())["walnatsd_spool_oldest_seconds"] < 600
        await nats.start()
        await until(lambda: is_forwarded(sidecar))
        last = receipt(await emitter.emit("counts", b"30"))
        assert last["spooled"] is False
        metrics = await sidecar.metrics()
    assert await numbers(nats) == list(range(31))
    assert [header["Nats-Msg-Id"] for _, header in (await stored(nats))[1:30]] == [f"u{n}" for n in range(1, 30)]
    assert not any("Nats-Expected-Last-Sequence" in header for _, header in await stored(nats))
    assert metrics['walnatsd_emits_total{event="counts",outcome="spooled"}'] == 29
    assert metrics['walnatsd_spool_forwarded_total{event="counts",outcome="stored"}'] == 29
    assert metrics["walnatsd_spool_messages"] == metrics["walnatsd_spool_bytes"] == 0
    assert metrics["walnatsd_spool_oldest_seconds"] == 0


async def _is_away(sidecar) -> bool:
    return "nats" in (await sidecar.readiness())[1]


async def test_everything_of_a_message_survives_the_spool(nats, tmp_path) -> None:
    await nats.stop()
    async with running(config(nats, tmp_path), ready=False) as sidecar:
        headers = {
            "Content-Type": "text/plain",
            "ce-type": "t",
            "walnats-header-X-Team": "ü",
            "traceparent": "00-1-2-01",
        }
        status, _ = await sidecar.try_emit("counts", bytes(range(256)), uid="u", trace_id="trace", headers=headers)
        assert status == 202
        await nats.start()
        await until(lambda: is_forwarded(sidecar))
    [(payload, header)] = await stored(nats)
    assert payload == bytes(range(256))
    assert header == {
        "Nats-Msg-Id": "u", "Walnats-Trace": "trace", "Content-Type": "text/plain", "ce-type": "t",
        "ce-datacontenttype": "text/plain", "X-Team": "ü", "traceparent": "00-1-2-01",
    }  # fmt: skip


async def test_a_stop_keeps_what_waits_and_the_next_start_forwards_it_before_what_is_emitted_then(
    nats, tmp_path
) -> None:
    await nats.stop()
    async with process(tmp_path / "daemon", config(nats, tmp_path), ready=False) as daemon:
        for number in range(20):
            assert (await daemon.sidecar.try_emit("counts", str(number)))[0] == 202
        began = time.monotonic()
        assert await daemon.end() == 0
        assert time.monotonic() - began < 10
        await daemon.start(ready=False)
        assert await waiting(daemon.sidecar) == 20
        assert (await daemon.sidecar.try_emit("counts", "20"))[0] == 202
        await nats.start()
        await until(lambda: is_forwarded(daemon.sidecar))
    assert await numbers(nats) == list(range(21))


async def test_emits_of_one_caller_stay_in_order_however_often_nats_comes_and_goes(nats, tmp_path) -> None:
    async with running(config(nats, tmp_path)) as sidecar:
        acknowledged: list[int] = []
        how = set()

        async def emit() -> None:
            for number in range(100_000):
                status, answer = await sidecar.try_emit("counts", str(number), uid=str(number))
                assert status in (200, 201, 202), answer
                acknowledged.append(number)
                how.add(answer["spooled"])

        task = asyncio.create_task(emit())
        for _ in range(3):
            so_far = len(acknowledged)
            await until(lambda so_far=so_far: len(acknowledged) > so_far + 50)
            await nats.stop()
            so_far = len(acknowledged)
            await until(lambda so_far=so_far: len(acknowledged) > so_far + 50)
            await nats.start()
        task.cancel()
        await until(lambda: is_forwarded(sidecar), timeout_s=30)
    assert how == {True, False}
    found = await numbers(nats)
    assert found == sorted(found)
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


async def test_what_others_emit_meanwhile_does_not_disturb_the_order(nats, tmp_path) -> None:
    count = 1500
    async with running(config(nats, tmp_path)) as sidecar, stubs(sidecar.grpc) as grpc_:
        await nats.stop()
        await until(lambda: _is_away(sidecar))
        for start in range(0, count, 500):
            items = [events_pb2.EmitRequest(event="counts", payload=b"%d" % n) for n in range(start, start + 500)]
            answer = await grpc_.events.EmitBatch(events_pb2.EmitBatchRequest(items=items))
            assert all(item.ok.spooled for item in answer.items)
        await nats.start()
        async with nats.jetstream() as jetstream:
            others = 0
            while not await is_forwarded(sidecar):
                await jetstream.publish("counts", b"-1")
                others += 1
    found = await numbers(nats)
    assert [number for number in found if number >= 0] == list(range(count))
    assert found.count(-1) == others
    assert found.index(-1) < len(found) - others, "the other one emitted in between"


@pytest.mark.parametrize("kind", ["grpc"])
async def test_a_nats_that_hangs_does_not_hold_up_the_answer_beyond_the_deadline_and_stores_once(
    nats, kind, tmp_path, monkeypatch
) -> None:
    async with running(config(nats, tmp_path, emit={"timeout": 1})) as sidecar, door(kind, sidecar) as emitter:
        async with nats.frozen():
            began = time.monotonic()
            answer = receipt(await emitter.emit("counts", b"0", uid="u", timeout_s=5))
            assert answer["spooled"] is True
            assert time.monotonic() - began < 4
            later = receipt(await emitter.emit("counts", b"1", uid="v"))
            assert later["spooled"] is True, "it queues behind the first one"
        await until(lambda: is_forwarded(sidecar))
        metrics = await sidecar.metrics()
    assert await numbers(nats) == [0, 1]
    assert metrics['walnatsd_spool_forwarded_total{event="counts",outcome="duplicate"}'] == 1


async def test_jetstream_away_while_nats_is_there_is_an_outage_too(nats, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.3)
    text = config(nats, tmp_path, nats={"manage": {"create": False}}, emit={"timeout": 0.5})
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
        await jetstream.add_consumer("counts", durable_name="keeper")
        async with running(text) as sidecar:
            await jetstream.delete_stream("counts")
            status, answer = await sidecar.try_emit("counts", "0")
            assert (status, answer["spooled"]) == (202, True)
            await until(lambda: _waits_for(sidecar, "not registered in NATS yet"))
            await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
            await jetstream.add_consumer("counts", durable_name="keeper")
            await until(lambda: is_forwarded(sidecar))
    assert await numbers(nats) == [0]


async def _waits_for(sidecar, text: str) -> bool:
    events = (await spool_status(sidecar))["events"]
    return any(text in (event["waits_for"] or "") for event in events)


# ---- what is refused at once


@both_doors
async def test_what_nats_would_refuse_for_ever_is_refused_before_it_is_kept(nats, kind, tmp_path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "integer"}')
    events = [
        {"name": "counts", "schema": {"json_schema": str(schema)}},
        {"name": "small", "limits": {"message_size": 200}},
        {"name": "smaller", "limits": {"bytes": 200, "when_full": "refuse"}},
    ]
    async with running(config(nats, tmp_path, events=events)) as sidecar, door(kind, sidecar) as emitter:
        await nats.stop()
        await until(lambda: _is_away(sidecar))
        said = [
            refusal(answer).reason
            for answer in [
                await emitter.emit("none"),
                await emitter.emit("counts", uid="\x01"),
                await emitter.emit("counts", headers={"Nats-Msg-Id": "u"}),
                await emitter.emit("counts", b'"text"'),
                await emitter.emit("small", bytes(200)),
                await emitter.emit("smaller", bytes(200)),
                await emitter.emit("small", bytes(1 << 20)),
            ]
        ]
        assert await waiting(sidecar) == 0
    assert said == ["UNKNOWN_EVENT", "INVALID_UID", "INVALID_HEADER", "SCHEMA", "TOO_LARGE", "TOO_LARGE", "TOO_LARGE"]


async def test_what_is_larger_than_the_server_takes_is_refused_as_far_as_that_is_known(nats, tmp_path) -> None:
    async with running(config(nats, tmp_path)) as sidecar:
        await nats.stop()
        await until(lambda: _is_away(sidecar))
        status, answer = await sidecar.try_emit("counts", bytes(1 << 20))
    assert (status, answer["reason"]) == (413, "TOO_LARGE")
    assert "max_payload" in answer["detail"]


@both_doors
async def test_an_expected_sequence_can_not_be_promised_so_it_is_refused_and_not_kept(nats, kind, tmp_path) -> None:
    await nats.stop()
    text = config(nats, tmp_path, emit={"timeout": 0.5})
    async with running(text, ready=False) as sidecar, door(kind, sidecar) as emitter:
        first = refusal(await emitter.emit("counts", b"0", expected_last_sequence=0))
        assert (first.code, first.reason, first.maybe_stored) == (UNAVAILABLE[kind], "NATS_UNAVAILABLE", False)
        receipt(await emitter.emit("counts", b"0"))
        second = refusal(await emitter.emit("counts", b"1", uid="u", expected_last_sequence=0))
        assert (second.code, second.reason, second.uid) == (UNAVAILABLE[kind], "NATS_UNAVAILABLE", "u")
        assert "wait in the spool" in second.message
        assert await waiting(sidecar) == 1


async def test_a_call_is_not_kept_for_nobody_would_answer_in_time(nats, tmp_path) -> None:
    await nats.stop()
    async with running(config(nats, tmp_path), ready=False) as sidecar:
        url = f"http://{sidecar.http}/v1/events/counts/request?timeout=300ms"
        async with sidecar.session.post(url, data=b"1") as response:
            assert response.status == 503
        assert await waiting(sidecar) == 0


async def test_a_uid_that_waits_already_is_a_duplicate(nats, tmp_path) -> None:
    await nats.stop()
    async with running(config(nats, tmp_path), ready=False) as sidecar:
        first, second = [await sidecar.try_emit("counts", "0", uid="u") for _ in range(2)]
        assert (first[0], first[1]["duplicate"], first[1]["spooled"]) == (202, False, True)
        assert (second[0], second[1]["duplicate"], second[1]["spooled"]) == (200, True, True)
        assert await waiting(sidecar) == 1
        await nats.start()
        await until(lambda: is_forwarded(sidecar))
    assert await numbers(nats) == [0]


# ---- limits


async def test_beyond_max_bytes_emits_are_refused_with_the_reason_and_what_waits_is_forwarded(nats, tmp_path) -> None:
    await nats.stop()
    text = config(nats, tmp_path, spool={"path": str(tmp_path / "spool.db"), "max_bytes": 5000})
    async with running(text, ready=False) as sidecar:
        statuses = [(await sidecar.try_emit("counts", f"{n:0900}"))[0] for n in range(6)]
        assert statuses == [202, 202, 202, 202, 503, 503]
        _, answer = await sidecar.try_emit("counts", f"{9:0900}", uid="u")
        assert (answer["reason"], answer["uid"], answer["maybe_stored"]) == ("NATS_UNAVAILABLE", "u", False)
        assert "of 5000 bytes (spool.max_bytes)" in answer["detail"]
        await nats.start()
        await until(lambda: is_forwarded(sidecar))
        assert (await sidecar.try_emit("counts", "5"))[0] == 201
    assert await numbers(nats) == [0, 1, 2, 3, 5]


async def test_while_the_oldest_is_too_old_emits_are_refused_with_the_reason(nats, tmp_path) -> None:
    await nats.stop()
    text = config(nats, tmp_path, spool={"path": str(tmp_path / "spool.db"), "max_age": "200ms"})
    async with running(text, ready=False) as sidecar:
        assert (await sidecar.try_emit("counts", "0"))[0] == 202
        answer = await until(lambda: _refused(sidecar))
        assert answer["reason"] == "NATS_UNAVAILABLE"
        assert "spool.max_age" in answer["detail"]
        assert "spool.max_age" in (await spool_status(sidecar))["refuses_because"]
        await nats.start()
        await until(lambda: is_forwarded(sidecar))
    assert 0 in await numbers(nats)


async def _refused(sidecar: Sidecar) -> dict[str, object] | None:
    status, answer = await sidecar.try_emit("counts", "1")
    return answer if status == 503 else None


# ---- delays and codecs


async def test_a_delay_counts_from_the_emit(nats, receiver, tmp_path) -> None:
    actors = [{"name": "print", "event": "counts", "url": receiver.url}]
    await nats.stop()
    async with running(config(nats, tmp_path, actors=actors), ready=False) as sidecar:
        before = time.time()
        for name, delay in (("soon", "300ms"), ("late", "4s")):
            status, answer = await sidecar.try_emit("counts", name, delay=delay)
            assert (status, answer["scheduled"], answer["spooled"]) == (202, True, True)
        await until(lambda: time.time() > before + 0.3)
        await nats.start()
        await receiver.wait_for(1)
        assert receiver.bodies == [b"soon"], "its time was over when it was forwarded"
        assert time.time() < before + 4
        await receiver.wait_for(2)
        assert time.time() >= before + 4


async def test_the_disk_sees_only_what_codecs_made_of_the_payload(nats, tmp_path) -> None:
    key = tmp_path / "key"
    key.write_text(base64.urlsafe_b64encode(bytes(32)).decode())
    await nats.stop()
    text = config(nats, tmp_path, events=[{"name": "counts", "codecs": [{"fernet": {"keys": [{"file": str(key)}]}}]}])
    async with running(text, ready=False) as sidecar:
        assert (await sidecar.try_emit("counts", b"plain words" * 3))[0] == 202
        on_disk = b"".join(file.read_bytes() for file in tmp_path.glob("spool.db*"))
        assert b"counts" in on_disk
        assert b"plain words" not in on_disk
        await nats.start()
        await until(lambda: is_forwarded(sidecar))
    [(payload, _)] = await stored(nats)
    assert Fernet(base64.urlsafe_b64encode(bytes(32))).decrypt(payload) == b"plain words" * 3


# ---- NATS is there


async def test_with_nats_there_nothing_is_written_to_the_disk(nats, tmp_path, monkeypatch) -> None:
    async with running(config(nats, tmp_path)) as sidecar:
        monkeypatch.setattr("walnatsd.spool.writer._transact", lambda *_: pytest.fail("written to the disk"))
        for number in range(20):
            assert (await sidecar.try_emit("counts", str(number)))[0] == 201
    assert await numbers(nats) == list(range(20))


async def test_a_burst_forwards_what_is_in_the_spool_and_has_it_handled(nats, receiver, tmp_path) -> None:
    actors = [{"name": "print", "event": "counts", "url": receiver.url}]
    events = [{"name": "counts", "limits": {"messages": 3, "when_full": "refuse"}}]
    text = config(nats, tmp_path, actors=actors, events=events)
    await nats.stop()
    async with process(tmp_path / "daemon", text, ready=False) as daemon:
        for number in range(10):
            assert (await daemon.sidecar.try_emit("counts", str(number)))[0] == 202
        await daemon.end()
    await nats.start()
    async with process(tmp_path / "daemon", text, "--burst", ready=False) as daemon:
        assert await daemon.wait() == 0
    assert sorted(map(int, receiver.bodies)) == list(range(10))


async def test_status_shows_the_spool_while_nats_is_away(nats, tmp_path) -> None:
    await nats.stop()
    async with running(config(nats, tmp_path), ready=False) as sidecar:
        await sidecar.try_emit("counts", "0")
        done = await walnatsd("status", "--admin", sidecar.admin)
        assert done.exit_code == 1
        assert b"1 messages wait, the oldest for" in done.out
        assert b"counts  1" in done.out
        assert "NATS is not connected" in done.err
        alone = await walnatsd("spool", "status", "--admin", sidecar.admin)
        assert (alone.exit_code, alone.err) == (0, "")
        assert b"WAITS FOR" in alone.out


async def test_without_a_spool_its_status_says_so(nats) -> None:
    async with running(config_text(nats.url)) as sidecar:
        assert await spool_status(sidecar) == {"enabled": False}
        assert b"There is no spool" in (await walnatsd("spool", "status", "--admin", sidecar.admin)).out
        assert b"spool" not in (await walnatsd("status", "--admin", sidecar.admin)).out
        assert b"Nothing is set aside" in (await walnatsd("spool", "list", "--admin", sidecar.admin)).out
        assert "no message 3 is set aside" in (await walnatsd("spool", "retry", "3", "--admin", sidecar.admin)).err
