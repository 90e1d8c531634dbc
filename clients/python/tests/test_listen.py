"""What `listen` makes of deliveries, against a real gRPC server that plays the sidecar."""

import asyncio
import re
import threading
import time
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

import walnatsd_client as walnatsd
from listen_sidecar import Request, Sidecar, listening
from walnatsd_client import _listen

COUNT = walnatsd.Event("counts", int)


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


# ---- outcomes


async def test_a_handler_that_returns_acknowledges(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    handled = []

    async def handle(count: int) -> None:
        handled.append((count, walnatsd.current_delivery()))

    async with listening(conn, walnatsd.Actor("print", COUNT, handle), max_in_flight=7):
        session = await sidecar.session()
        assert session.subscribe == Request.Subscribe(event="counts", actor="print", max_in_flight=7)
        await session.deliver(b"7", uid="one", sequence=3, trace_id="t", headers={"ce-subject": "s"})
        assert await session.result() == Request.Result(delivery_id=1, ack=Request.Ack())
    facts = walnatsd.Delivery(
        "counts", "print", "one", 3, 2, "t", {"ce-subject": "s", "content-type": "application/json"}
    )
    assert handled == [(7, facts)]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (walnatsd.Reject("never"), Request.Result(delivery_id=1, reject=Request.Reject(reason="never"))),
        (walnatsd.Reject(), Request.Result(delivery_id=1, reject=Request.Reject())),
        (walnatsd.Reject("\ud800"), Request.Result(delivery_id=1, reject=Request.Reject(reason="?"))),
        (
            walnatsd.Retry(1.5, "later"),
            Request.Result(
                delivery_id=1, retry=Request.Retry(after=Duration(seconds=1, nanos=500_000_000), reason="later")
            ),
        ),
        (walnatsd.Retry(0), Request.Result(delivery_id=1, retry=Request.Retry(after=Duration()))),
        (walnatsd.Retry(), Request.Result(delivery_id=1, retry=Request.Retry())),
        (
            OSError("a secret"),
            Request.Result(delivery_id=1, retry=Request.Retry(reason="the handler failed; its log says why")),
        ),
    ],
    ids=["reject", "reject without reason", "reject in no Unicode", "retry", "retry now", "retry any time", "error"],
)
async def test_what_a_handler_raises_is_told(
    sidecar: Sidecar, conn: walnatsd.Connection, error: Exception, result: Request.Result
) -> None:
    async def fail(_count: int) -> None:
        raise error

    async with listening(conn, walnatsd.Actor("print", COUNT, fail)):
        session = await sidecar.session()
        await session.deliver(b"7")
        assert await session.result() == result


async def test_a_payload_that_is_not_of_the_schema_is_rejected(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    async with listening(conn, walnatsd.Actor("print", COUNT, print)):
        session = await sidecar.session()
        await session.deliver(b"seven")
        assert "not of the event's schema" in (await session.result()).reject.reason


async def test_handlers_that_are_not_async_run_in_threads_side_by_side(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    both = threading.Barrier(2, timeout=10)
    counts = []

    def handle(count: int) -> None:
        both.wait()
        counts.append((count, walnatsd.current_delivery().attempt))

    async with listening(conn, walnatsd.Actor("print", COUNT, handle)):
        session = await sidecar.session()
        await session.deliver(b"1", b"2")
        answered: set[int] = set()
        while len(answered) < 2:
            request = await session.next()
            assert request is not None
            answered |= {result.delivery_id for result in request.results.items}
    assert sorted(counts) == [(1, 2), (2, 2)]


async def test_many_results_go_in_one_message(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    async def handle(_count: int) -> None:
        pass

    async with listening(conn, walnatsd.Actor("print", COUNT, handle)):
        session = await sidecar.session()
        await session.deliver(*[b"%d" % number for number in range(1000)])
        messages = []
        while sum(map(len, messages)) < 1000:
            request = await session.next()
            assert request is not None
            messages.append(request.results.items)
    assert len(messages) < 20
    assert sorted(result.delivery_id for items in messages for result in items) == list(range(1, 1001))


async def test_large_responses_do_not_all_go_in_one_message(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    event = walnatsd.Event("counts", int).with_response(bytes)

    async def handle(_count: int) -> bytes:
        return b"x" * 300_000

    async with listening(conn, walnatsd.Actor("print", event, handle)):
        session = await sidecar.session()
        await session.deliver(*[b"%d" % number for number in range(10)])
        results: list[Request.Result] = []
        while len(results) < 10:
            request = await session.next()
            assert request is not None
            assert request.ByteSize() < 2 << 20
            results += request.results.items
    assert {(len(result.ack.response), result.ack.content_type) for result in results} == {
        (300_000, "application/octet-stream")
    }


async def test_a_handler_that_is_not_done_by_the_deadline_is_cancelled_and_nothing_is_told(
    sidecar: Sidecar, conn: walnatsd.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = asyncio.Event()

    async def handle(count: int) -> None:
        if count == 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    async with listening(conn, walnatsd.Actor("print", COUNT, handle)):
        session = await sidecar.session()
        await session.deliver(b"1", time_left_s=0.05)
        await asyncio.wait_for(cancelled.wait(), 10)
        await session.deliver(b"2")
        assert (await session.result()).delivery_id == 2
    assert "was not done within job_timeout" in caplog.text


async def test_a_handlers_own_timeout_is_an_error_as_any_other(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    async def handle(_count: int) -> None:
        raise TimeoutError

    async with listening(conn, walnatsd.Actor("print", COUNT, handle)):
        session = await sidecar.session()
        await session.deliver(b"1")
        assert (await session.result()).HasField("retry")


async def test_a_delivery_that_comes_after_its_deadline_is_not_started(
    sidecar: Sidecar, conn: walnatsd.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    handled = []

    async def handle(count: int) -> None:
        handled.append(count)

    async with listening(conn, walnatsd.Actor("print", COUNT, handle)):
        session = await sidecar.session()
        await session.deliver(b"1", time_left_s=-60)
        await session.deliver(b"2")
        await session.result()
    assert handled == [2]
    assert "is the clock right" in caplog.text


# ---- leaving


async def test_when_cancelled_it_takes_nothing_more_and_finishes_what_runs(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    counts, started, finish = [], asyncio.Event(), asyncio.Event()

    async def handle(count: int) -> None:
        counts.append(count)
        started.set()
        await finish.wait()

    async with listening(conn, walnatsd.Actor("print", COUNT, handle)) as task:
        session = await sidecar.session()
        await session.deliver(b"1")
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        assert await session.next() == Request(stop=Request.Stop())
        await session.deliver(b"2")
        finish.set()
        assert (await session.result()).delivery_id == 1
        assert await session.next() is None
        with pytest.raises(asyncio.CancelledError):
            await task
    assert counts == [1]


async def test_when_cancelled_once_more_it_ends_at_once(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(_count: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with listening(conn, walnatsd.Actor("print", COUNT, handle)) as task:
        session = await sidecar.session()
        await session.deliver(b"1")
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        assert await session.next() == Request(stop=Request.Stop())
        assert not cancelled.is_set()
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < _listen.LEAVE_TIMEOUT_S
    assert cancelled.is_set()


async def test_the_listen_example_of_the_readme_runs(sidecar: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    [example] = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "conn.listen" in block]
    names: dict[str, object] = {"__name__": "listen"}
    async with sidecar.serve() as target:
        exec(example.replace("127.0.0.1:7520", target), names)
        task = asyncio.create_task(names["main"]())  # type: ignore[operator]
        session = await sidecar.session()
        await session.deliver(b"7")
        assert (await session.result()).HasField("ack")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sidecar.registered == ["counts", "print"]
    assert capsys.readouterr().out == "7\n"


async def test_when_cancelled_without_a_sidecar_it_ends_at_once(tmp_path) -> None:
    async with walnatsd.connect(f"unix:{tmp_path}/nobody.sock") as conn:
        task = asyncio.create_task(conn.listen(walnatsd.Actor("print", COUNT, print)))
        await asyncio.sleep(0.05)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < _listen.LEAVE_TIMEOUT_S
