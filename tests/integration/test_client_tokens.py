"""The client sends its token with every call and stream, again after a restart, and shows it nowhere."""

import asyncio

import pytest

import walnatsd_client as walnatsd
from support.access import guarded_text, token_of
from support.daemon import process, running
from support.waiting import until

COUNT = walnatsd.Event("counts", int)
COUNTED = walnatsd.Event("counts", int).with_response(int)


async def refused(work, reason: str, words: str) -> None:
    with pytest.raises(walnatsd.AccessError) as error:
        await work
    assert error.value.reason == reason
    assert words in str(error.value)
    assert "connect(token=…), or set WALNATSD_TOKEN" in str(error.value)
    assert "token-of" not in str(error.value)


async def watch(connection: walnatsd.Connection) -> None:
    async with connection.monitor(COUNT):
        pass


async def test_each_call_sends_the_token_and_an_error_says_what_to_do(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    actor = walnatsd.Actor("print", COUNT, print)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        async with walnatsd.connect(sidecar.grpc) as nobody:
            await refused(nobody.emit(COUNT, 1), "TOKEN", "needs a token")
            await refused(nobody.register(actor), "TOKEN", "needs a token")
            await refused(nobody.listen(actor), "TOKEN", "needs a token")
            await refused(watch(nobody), "TOKEN", "needs a token")
        async with walnatsd.connect(sidecar.grpc, token=token_of("emit")) as emitter:
            await emitter.register(COUNT)
            await asyncio.gather(*(emitter.emit(COUNT, number) for number in range(100)))
            await emitter.emit(COUNT, 1)
            with pytest.raises(walnatsd.ConflictError):
                await emitter.request(COUNTED, 1)
            await refused(emitter.register(actor), "SCOPE", "lacks the scope act; it has emit")
            await refused(emitter.listen(actor), "SCOPE", "lacks the scope act; it has emit")
            await refused(watch(emitter), "SCOPE", "lacks the scope act; it has emit")
            assert token_of("emit") not in f"{emitter!r} {vars(emitter)!r}"
        async with walnatsd.connect(sidecar.grpc, token=token_of("act")) as service:
            await service.register(actor)
            await watch(service)
            await refused(service.emit(COUNT, 1), "SCOPE", "lacks the scope emit; it has act")


async def test_the_environment_holds_the_token_and_an_argument_wins(nats, tmp_path, monkeypatch) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        monkeypatch.setenv("WALNATSD_TOKEN", f"{token_of('emit')}\n")
        async with walnatsd.connect(sidecar.grpc) as connection:
            await connection.emit(COUNT, 1)
        async with walnatsd.connect(sidecar.grpc, token=token_of("act")) as connection:
            await refused(connection.emit(COUNT, 1), "SCOPE", "lacks the scope emit")
        async with walnatsd.connect(sidecar.grpc, token="") as connection:
            await refused(connection.emit(COUNT, 1), "TOKEN", "needs a token")

        def blocking() -> None:
            with walnatsd.connect_sync(sidecar.grpc) as connection:
                connection.emit(COUNT, 1)
            with walnatsd.connect_sync(sidecar.grpc, token="") as connection, pytest.raises(walnatsd.AccessError):
                connection.emit(COUNT, 1)
            monkeypatch.delenv("WALNATSD_TOKEN")
            with walnatsd.connect_sync(sidecar.grpc, token=token_of("emit")) as connection:
                connection.emit(COUNT, 1)
                assert token_of("emit") not in repr(connection)

        await asyncio.to_thread(blocking)


async def test_a_token_that_can_not_be_sent_is_told_without_being_shown(monkeypatch) -> None:
    for token in ("se same", "sesäme", "sesame\n"):
        with pytest.raises(ValueError, match="token is no token") as error:
            async with walnatsd.connect(token=token):
                pass
        assert token.strip() not in str(error.value)
        with pytest.raises(ValueError, match="token is no token"):
            walnatsd.connect_sync(token=token)
    monkeypatch.setenv("WALNATSD_TOKEN", "se same")
    with pytest.raises(ValueError, match="WALNATSD_TOKEN is no token"):
        walnatsd.connect_sync()


async def test_a_listener_and_a_feed_come_again_with_their_token(nats, tmp_path) -> None:
    handled: list[int] = []
    seen: list[int] = []
    actor = walnatsd.Actor("collect", COUNT, handled.append)

    async def feed(connection: walnatsd.Connection) -> None:
        async with connection.monitor(COUNT) as messages:
            async for each in messages:
                seen.append(each.message)

    async with process(tmp_path, guarded_text(nats.url, tmp_path)) as daemon:
        assert daemon.sidecar is not None
        target = daemon.sidecar.grpc
        text = daemon.file.read_text()
        async with (
            walnatsd.connect(target, token=token_of("act")) as service,
            walnatsd.connect(target, token=token_of("emit")) as emitter,
            asyncio.TaskGroup() as tasks,
        ):
            await service.register(actor)
            working = [tasks.create_task(service.listen(actor)), tasks.create_task(feed(service))]

            async def emitted_is_seen(number: int) -> bool:
                await emitter.emit(COUNT, number)
                return number in handled and number in seen

            await until(lambda: emitted_is_seen(1))
            await daemon.end()
            daemon.file.write_text(text.replace("grpc:\n  listen: 127.0.0.1:0", f"grpc:\n  listen: {target}"))
            await daemon.start()
            await until(lambda: emitted_is_seen(2))
            for task in working:
                task.cancel()
