"""The Python client's gathered emits when the daemon is killed beneath them."""

import asyncio
import signal
from pathlib import Path

import walnatsd_client as walnatsd
from support.daemon import config_text, process
from support.waiting import until

COUNT = walnatsd.Event("counts", int)
EMITTERS, EACH = 20, 15


async def test_emits_that_a_killed_daemon_leaves_behind_are_stored_once_by_the_next_one(nats, tmp_path: Path) -> None:
    text = config_text(
        nats.url,
        grpc={"listen": f"unix:{tmp_path}/grpc.sock"},
        events=[{"name": "counts"}],
        actors=[{"name": "keep", "event": "counts"}],  # nobody listens, so all that is stored stays
    )
    done: list[walnatsd.Receipt] = []

    async def emit(conn: walnatsd.Connection, first: int) -> None:
        for number in range(first, first + EACH):
            done.append(await conn.emit(COUNT, number, uid=f"uid-{number}", timeout=60))

    async with (
        process(tmp_path / "daemon", text) as daemon,
        walnatsd.connect(f"unix:{tmp_path}/grpc.sock") as conn,
        asyncio.TaskGroup() as tasks,
    ):
        for emitter in range(EMITTERS):
            tasks.create_task(emit(conn, emitter * EACH))
        for share in (4, 2):
            await until(lambda share=share: len(done) > EMITTERS * EACH / share)
            await daemon.end(signal.SIGKILL)
            await daemon.start()
    async with nats.jetstream() as jetstream:
        info = await jetstream.stream_info("counts")
        stored = [await jetstream.get_msg("counts", sequence) for sequence in range(1, info.state.last_seq + 1)]
    assert sorted(int(message.data or b"") for message in stored) == list(range(EMITTERS * EACH))
    assert {receipt.uid: receipt.sequence for receipt in done} == {
        (message.headers or {})["Nats-Msg-Id"]: message.seq for message in stored
    }
