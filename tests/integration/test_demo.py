"""`make demo`: what it shows, how it ends, and that nothing is left of it."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from support.waiting import until

DEMO = Path(__file__).parents[2] / "examples" / "demo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo keeps its files; every process of it has this path in its environment."""
    path = tmp_path / "temporary"
    path.mkdir()
    return path


@contextlib.asynccontextmanager
async def playing(folder: Path, *arguments: str, demo: Path = DEMO) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(demo / "demo.py"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(folder), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    try:
        yield process
    finally:
        for left in left_of(folder):
            left.kill()
        await process.wait()


def left_of(folder: Path) -> list[psutil.Process]:
    """Processes that were started for the demo and still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_the_demo_loses_nothing_when_half_of_it_is_killed_and_leaves_nothing_behind(folder: Path) -> None:
    async with playing(folder, "--numbers", "80") as process:
        output, _ = await process.communicate()
        text = output.decode()
        assert process.returncode == 0, text
        assert "SIGKILL" in text
        assert "emitted     80" in text
        assert "handled     80" in text
        assert "lost         0" in text
        assert "none was lost" in text
        assert "\x1b" not in text, "colours are for terminals"
        assert left_of(folder) == []
        assert files_in(folder) == []


async def test_an_interrupted_demo_leaves_nothing_behind(folder: Path) -> None:
    async with playing(folder) as process:
        assert process.stdout is not None
        while b"emitted" not in await process.stdout.readline():
            assert not process.stdout.at_eof()
        await until(lambda: len(left_of(folder)) == 7, what="demo, 2 sidecars, 2 receivers, nats-server, publisher")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
        assert process.returncode == 128 + signal.SIGINT
        assert "nothing is left running" in output.decode()
        assert left_of(folder) == []
        assert files_in(folder) == []


async def test_a_lost_number_fails_the_demo(folder: Path, tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    shutil.copytree(DEMO, demo, ignore=shutil.ignore_patterns("__pycache__"))
    _replace(demo / "receiver.py", "print(count, flush=True)", "print(count if count != 13 else '', flush=True)")
    _replace(demo / "demo.py", "PATIENCE_S = 20.0", "PATIENCE_S = 5.0")
    async with playing(folder, "--numbers", "30", demo=demo) as process:
        output, _ = await process.communicate()
        text = output.decode()
        assert process.returncode == 1, text
        assert "Lost: 13\n" in text
        assert left_of(folder) == []


async def test_a_service_that_cannot_start_fails_the_demo_with_its_last_words(folder: Path, tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    shutil.copytree(DEMO, demo, ignore=shutil.ignore_patterns("__pycache__"))
    _replace(demo / "walnatsd.yaml", "event: counts", "event: count")
    async with playing(folder, demo=demo) as process:
        output, _ = await process.communicate()
        assert process.returncode == 1
        assert "the event 'count' is not declared" in output.decode()
        assert left_of(folder) == []


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{old!r} is not once in {file.name}"
    file.write_text(text.replace(old, new))
