"""How `listen` comes again, and when it does not, against a real gRPC server that plays the sidecar."""

import asyncio

import grpc
import pytest

import walnatsd_client as walnatsd
from listen_sidecar import Sidecar, listening
from walnatsd_client import _listen

COUNT = walnatsd.Event("counts", int)


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


async def test_when_the_stream_breaks_what_runs_is_cancelled_and_a_new_session_begins(
    sidecar: Sidecar, conn: walnatsd.Connection
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
        await session.deliver(b"1", b"2")
        assert (await session.result()).delivery_id == 2
        session.end(grpc.StatusCode.UNAVAILABLE)
        session = await sidecar.session()
        assert cancelled.is_set()
        await session.deliver(b"3")
        assert (await session.result()).delivery_id == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "STOPPING"),
        (grpc.StatusCode.UNAVAILABLE, "NATS_UNAVAILABLE"),
        (grpc.StatusCode.ABORTED, "REPLACED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "NOT_READING"),
        (grpc.StatusCode.INTERNAL, ""),
    ],
)
async def test_it_comes_again_after_an_end_that_says_so(
    sidecar: Sidecar, conn: walnatsd.Connection, code: grpc.StatusCode, reason: str
) -> None:
    async with listening(conn, walnatsd.Actor("print", COUNT, print)):
        for _ in range(3):
            (await sidecar.session()).end(code, reason)


async def test_it_waits_for_a_sidecar_that_starts_later_and_goes_on_after_it_restarts(
    sidecar: Sidecar, tmp_path
) -> None:
    address = f"unix:{tmp_path}/grpc.sock"
    async with walnatsd.connect(address) as conn, listening(conn, walnatsd.Actor("print", COUNT, print)):
        for _ in range(2):
            async with sidecar.serve(address):
                await sidecar.session()


async def test_a_sidecar_of_which_nothing_is_heard_is_left(
    sidecar: Sidecar, conn: walnatsd.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listen, "SILENCE_S", 0.2)
    async with listening(conn, walnatsd.Actor("print", COUNT, print)):
        first = await sidecar.session()
        await sidecar.session()
        assert await first.next() is None


async def test_what_the_sidecar_has_forgotten_is_registered_again_once_for_all_actors(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    actors = [walnatsd.Actor(name, COUNT, print) for name in ("a", "b")]
    await conn.register(*actors, walnatsd.Event("others", int))
    before = list(sidecar.registered)
    async with listening(conn, *actors):
        sessions = [await sidecar.session() for _ in actors]
        sidecar.refuse = dict.fromkeys("ab", (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACTOR"))
        for session in sessions:
            session.end(grpc.StatusCode.UNAVAILABLE)
        assert {(await sidecar.session()).subscribe.actor for _ in actors} == {"a", "b"}
    assert sidecar.registered == 2 * before == 2 * ["counts", "others", "a", "b"]


async def test_an_actor_that_nobody_declared_is_an_error(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    sidecar.refuse["print"] = (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACTOR")
    with pytest.raises(walnatsd.UnknownActorError, match="because"):
        await conn.listen(walnatsd.Actor("print", COUNT, print))


async def test_an_actor_that_was_served_before_is_waited_for_until_somebody_declares_it_again(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    async with listening(conn, walnatsd.Actor("print", COUNT, print)):
        session = await sidecar.session()
        sidecar.refuse["print"] = (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACTOR")
        session.end(grpc.StatusCode.UNAVAILABLE)
        await asyncio.sleep(0.2)
        sidecar.refuse.clear()
        await sidecar.session()


async def test_a_refusal_ends_listening_to_all_actors(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    sidecar.refuse["hook"] = (grpc.StatusCode.FAILED_PRECONDITION, "CONFLICT")
    with pytest.raises(walnatsd.ConflictError):
        await conn.listen(walnatsd.Actor("print", COUNT, print), walnatsd.Actor("hook", COUNT, print))


async def test_wrong_arguments_are_refused_before_anything_is_sent(conn: walnatsd.Connection) -> None:
    actor = walnatsd.Actor("print", COUNT, print)
    for wrong in ((), (actor, actor)):
        with pytest.raises(ValueError, match="different actors"):
            await conn.listen(*wrong)
    with pytest.raises(ValueError, match="max_in_flight"):
        await conn.listen(actor, max_in_flight=-1)


async def test_it_ends_with_an_error_when_its_connection_is_closed(sidecar: Sidecar) -> None:
    actor = walnatsd.Actor("print", COUNT, print)
    async with sidecar.serve() as target, asyncio.timeout(20):
        async with walnatsd.connect(target) as conn:
            listening = asyncio.create_task(conn.listen(actor))
            await sidecar.session()
        with pytest.raises(walnatsd.UnavailableError, match="closed here"):
            await listening
        with pytest.raises(walnatsd.UnavailableError, match="closed here"):
            await conn.listen(actor)
