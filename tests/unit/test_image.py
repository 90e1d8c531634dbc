"""The container image, as far as it can be looked at without building it."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from support.certificates import Authority
from support.daemon import config_text, running
from support.nats_server import free_port
from support.waiting import until

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text()).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in INSTRUCTIONS if line.startswith(f"{name} ")]


def health_check(address: str, variable: str = "WALNATSD_ADMIN__LISTEN") -> tuple[int, str]:
    """Run the image's health check for a daemon whose administration address, or another, is this one."""
    [instruction] = instructions("HEALTHCHECK")
    python, *arguments = json.loads(instruction.partition(" CMD ")[2])
    assert python == "python"
    ended = subprocess.run(
        [sys.executable, *arguments], env=os.environ | {variable: address},
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


async def test_the_health_check_passes_where_the_daemon_is_ready(nats) -> None:
    async with running(config_text(nats.url)) as sidecar:
        code, said = await asyncio.to_thread(health_check, sidecar.admin)
    assert code == 0, said
    assert '"ready"' in said


async def test_the_health_check_asks_the_monitoring_address_where_there_is_one(nats, tmp_path) -> None:
    """The administration address may have TLS."""
    text = config_text(
        nats.url,
        monitoring={"listen": "127.0.0.1:0"},
        admin={"tls": Authority(tmp_path).pair("admin").options()},
    )
    async with running(text, ready=False) as sidecar:
        asked = health_check, sidecar.monitoring, "WALNATSD_MONITORING__LISTEN"

        async def passes() -> bool:
            return (await asyncio.to_thread(*asked))[0] == 0

        await until(passes)


async def test_the_health_check_fails_and_says_why_where_nats_is_away() -> None:
    async with running(config_text(f"nats://127.0.0.1:{free_port()}"), ready=False) as sidecar:
        code, said = await asyncio.to_thread(health_check, sidecar.admin)
    assert code == 1, said
    assert "waiting for NATS at" in said


def test_the_health_check_fails_where_there_is_no_daemon() -> None:
    code, said = health_check(f"127.0.0.1:{free_port()}")
    assert code == 1, said


def test_the_image_runs_the_daemon_with_the_usual_file_and_not_as_root() -> None:
    [command] = instructions("CMD")
    assert json.loads(command) == ["walnatsd", "run", "-c", "/etc/walnatsd/walnatsd.yaml"]
    assert instructions("USER") == ["10001:10001"]


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    passed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = [copy for copy in instructions("COPY") if not copy.startswith("--from")]
    assert copied
    for source in [source for copy in copied for source in copy.split()[:-1]]:
        assert source in passed, f"{source} is left out by .dockerignore"
        assert (ROOT / source).exists(), source


def test_each_distribution_carries_the_licence() -> None:
    assert (ROOT / "clients/python/LICENSE").read_text() == (ROOT / "LICENSE").read_text()
