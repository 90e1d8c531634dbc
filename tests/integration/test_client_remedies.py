"""Each fault of the nats library's connection, shown with the plain client, and gone with ours."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator

import nats as nats_library
import pytest
from nats import errors
from nats.aio.client import Client as PlainClient

from support.clients import answers, client, hears_itself, ours
from support.nats_server import NatsServer, free_port
from support.proxy import Proxy, proxy
from support.waiting import until
from walnatsd.broker import connection as connection_module
from walnatsd.broker.client import Client
from walnatsd.broker.errors import NoReplyError, NotConnectedError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.publisher import Publisher
from walnatsd.broker.wire import Frame
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.observe.health import Health


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library tells of each fault on its own; and reconnects need no patience here."""
    monkeypatch.setattr(logging.getLogger("nats.aio.client"), "disabled", True)
    monkeypatch.setattr(connection_module, "RECONNECT_WAIT_S", 0.05)
    monkeypatch.setattr(connection_module, "WATCH_INTERVAL_S", 0.05)


@pytest.fixture
async def way(nats: NatsServer) -> AsyncIterator[Proxy]:
    """The way to the server, which may break."""
    async with proxy(nats.port) as started:
        yield started


# ---- the connection looks alive and is not


@pytest.mark.parametrize(("kind", "lives"), [(PlainClient, False), (Client, True)])
async def test_a_late_pong_kills_the_librarys_read_loop_but_not_ours(way, kind, lives) -> None:
    async with client(kind, way.url) as made:
        way.hold_answers()
        with pytest.raises(errors.FlushTimeoutError):
            await made.flush(timeout=0.05)
        way.resume()
        await until(lambda: made._reading_task.done() or made._pongs == [])
        await asyncio.sleep(0)
        assert made.is_connected
        assert await hears_itself(made) is lives


async def break_read_loop(made: PlainClient) -> None:
    async def fail(_data: bytes) -> None:
        raise ValueError("a fault in the parser")

    made._ps.parse = fail
    made._transport.write(b"PING\r\n")
    await until(made._reading_task.done)
    del made._ps.parse


async def test_the_librarys_read_loop_can_die_while_the_client_looks_connected(nats) -> None:
    async with client(PlainClient, nats.url) as made:
        await break_read_loop(made)
        assert made.is_connected
        assert not await hears_itself(made)


async def test_our_connection_revives_a_dead_read_loop(nats) -> None:
    async with ours(nats.url) as made:
        await made.wait_connected()
        await break_read_loop(made._client)
        await until(lambda: answers(made))


async def test_our_frames_need_no_flusher_and_our_connection_revives_a_dead_one(nats) -> None:
    async with client(Client, nats.url) as made:  # nobody watches over a client alone
        frames: list[Frame] = []
        await made.attach("echo", frames.append)
        made._flusher_task.cancel()
        await until(made._flusher_task.done)
        made.send(b"PUB echo 1\r\n1\r\n")
        await until(lambda: frames)
        assert await made.revive() == "flusher"
    async with ours(nats.url) as made:
        await made.wait_connected()
        made._client._flusher_task.cancel()
        await until(lambda: answers(made))


async def break_reconnecting(made: PlainClient, way: Proxy) -> None:
    """Let the reconnecting meet an error that it does not expect."""
    made._connect_command = lambda: 1 // 0
    await way.cut()
    await until(lambda: made._reconnection_task is not None and made._reconnection_task.done())
    del made._connect_command
    made._reconnection_task.exception()


async def test_the_librarys_reconnecting_can_die_and_leaves_the_client_away_for_ever(way) -> None:
    async with client(PlainClient, way.url) as made:
        await break_reconnecting(made, way)
        assert not made.is_closed
        assert not await hears_itself(made)


async def test_our_connection_revives_its_reconnecting(way, monkeypatch) -> None:
    monkeypatch.setattr(connection_module, "WATCH_INTERVAL_S", 0.3)
    async with ours(way.url) as made:
        await made.wait_connected()
        await break_reconnecting(made._client, way)
        await until(lambda: answers(made))


# ---- the connection breaks


@pytest.mark.parametrize(("kind", "comes_back"), [(PlainClient, False), (Client, True)])
async def test_headers_and_payload_over_max_payload_close_the_librarys_client_for_good_but_not_ours(
    nats, kind, comes_back
) -> None:
    async with client(kind, nats.url) as made:
        await made.publish("echo", b"x" * made.max_payload, headers={"a": "b"})
        await until(lambda: made.is_closed or made.stats["reconnects"])
        assert made.is_closed is not comes_back
        if comes_back:
            assert await hears_itself(made)


async def test_our_publisher_refuses_what_is_over_max_payload_and_the_connection_stays(nats) -> None:
    async with ours(nats.url) as made:
        await made.wait_connected()
        with pytest.raises(Refusal) as refused:
            await Publisher(made).publish("counts", b"x" * made.max_payload, {"Nats-Msg-Id": "u"}, budget_s=1)
        assert refused.value.reason is Reason.TOO_LARGE
        assert made._client.stats["reconnects"] == 0
        assert await answers(made)


async def flood(made: PlainClient) -> None:
    with contextlib.suppress(errors.OutboundBufferLimitError):  # as soon as the loss is noticed
        for _ in range(64):
            await made.publish("flood", b"x" * (1 << 19))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_librarys_client_waits_for_a_hung_server_before_it_reconnects(way) -> None:
    lost = asyncio.Event()

    async def tell() -> None:
        lost.set()

    # the buffers are full long before two pings have had no answer
    async with client(PlainClient, way.url, ping_interval=0.5, disconnected_cb=tell) as made:
        way.pause()
        flooding = asyncio.create_task(flood(made))
        await until(lambda: made.is_reconnecting)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lost.wait(), 0.3)
        flooding.cancel()
        await asyncio.wait([flooding])
        way.resume()
        await until(lost.is_set)
        await until(lambda: made.is_connected)  # who closes before writes what is left to a socket that is gone
    gc.collect()  # the library leaves a stream open: its warning belongs to this test, not to a later one


async def test_our_connection_leaves_a_hung_server_at_once(way, monkeypatch) -> None:
    monkeypatch.setattr(connection_module, "PING_INTERVAL_S", 0.05)
    async with ours(way.url) as made:
        await made.wait_connected()
        way.pause()
        for _ in range(64):
            made.publish("flood", b"x" * (1 << 19))
        await until(lambda: not made.is_connected)
        await until(lambda: way.open_connections > 1)  # it tries anew, beside the socket that hangs
        await way.cut()
        way.resume()
        await until(lambda: answers(made))


async def test_a_loss_is_told_at_once_so_that_nobody_goes_on_as_if_the_connection_were_there(way) -> None:
    async with ours(way.url) as made:
        await made.wait_connected()
        way.pause()
        waiting = asyncio.ensure_future(made.request("nobody", timeout_s=60))
        await asyncio.sleep(0)
        await made._client._process_op_err(errors.UnexpectedEOF())
        with pytest.raises(NotConnectedError):
            made.publish("nobody")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await made.wait_connected()
        with pytest.raises(NoReplyError):
            await waiting


async def test_the_librarys_client_sends_after_an_outage_what_its_sender_has_given_up(nats) -> None:
    async with client(PlainClient, nats.url) as made:
        jetstream = made.jetstream()
        await jetstream.add_stream(name="counts", subjects=["counts"])
        await nats.kill()
        await until(lambda: made.is_reconnecting)
        with pytest.raises(errors.TimeoutError):
            await jetstream.publish("counts", b"1", timeout=0.1)
        await nats.start()
        await until(lambda: made.is_connected)

        async def stored() -> bool:
            return (await jetstream.stream_info("counts")).state.messages == 1

        await until(stored)  # the library says that it is connected before it has sent what waited


async def test_our_connection_forgets_what_could_not_be_sent(nats) -> None:
    async with ours(nats.url) as made:
        await made.wait_connected()
        await JetStream(made).request("STREAM.CREATE.counts", {"name": "counts", "subjects": ["counts"]})
        made.publish("counts", b"queued when the connection breaks")
        await made._client._process_op_err(errors.UnexpectedEOF())
        with pytest.raises(NotConnectedError):
            made.publish("counts", b"during the outage")
        await made.wait_connected()
        info = await JetStream(made).request("STREAM.INFO.counts")
        assert info["state"]["messages"] == 0


async def test_the_librarys_client_gives_up_after_some_reconnects(nats) -> None:
    async with client(PlainClient, nats.url, max_reconnect_attempts=2, reconnect_time_wait=0.01) as made:
        await nats.kill()
        await until(lambda: made.is_closed)


async def test_our_connection_never_gives_up(nats, monkeypatch) -> None:
    monkeypatch.setattr(connection_module, "RECONNECT_WAIT_S", 0.001)
    async with ours(nats.url) as made:
        await made.wait_connected()
        await nats.kill()
        await until(lambda: sum(server.reconnects for server in made._client._server_pool) > 80)
        await nats.start()
        await until(lambda: answers(made))


async def test_the_librarys_first_connect_gives_up() -> None:
    async def ignore(_error: Exception) -> None:
        pass

    with pytest.raises(errors.NoServersError):
        await nats_library.connect(
            f"nats://127.0.0.1:{free_port()}", max_reconnect_attempts=2, reconnect_time_wait=0.01, error_cb=ignore
        )


async def test_our_first_connect_waits_and_says_for_what(nats) -> None:
    await nats.kill()
    health = Health()
    async with ours(nats.url, health=health) as made:
        waiting = f"waiting for NATS at {nats.url}: nothing listens there"
        await until(lambda: health.problems.get("nats") == waiting)
        await nats.start()
        await made.wait_connected()
        assert health.is_ready


@pytest.mark.parametrize(("kind", "leaks"), [(PlainClient, True), (Client, False)])
async def test_the_librarys_client_leaves_the_sockets_of_failed_attempts_open_but_not_ours(way, kind, leaks) -> None:
    writers = []
    async with client(kind, way.url, connect_timeout=0.2) as made:
        connect = made._transport.connect

        async def remember(*args: object, **options: object) -> None:
            await connect(*args, **options)
            writers.append(made._transport._io_writer)

        made._transport.connect = remember
        way.hold_answers()
        await way.cut()
        await until(lambda: len(writers) >= 3)
        await until(lambda: way.open_connections >= 3 if leaks else way.open_connections == 1)
        way.resume()
    for writer in writers:
        writer.transport.abort()
