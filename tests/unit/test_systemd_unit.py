"""deploy/systemd: the unit is one that systemd takes, and fits the daemon."""

import subprocess
from pathlib import Path

import click
import pytest

from walnatsd.cli import main
from walnatsd.cli.config_option import BAD_CONFIG
from walnatsd.config.settings import Config

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "walnatsd@.service"
INSTALLED = "/opt/walnatsd/bin/walnatsd"


def settings(name: str) -> list[str]:
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]


def analyze(folder: Path, *command: str) -> str:
    """Have systemd's own tool look at the unit of one service; give what it says. It must be content."""
    installed = folder / "walnatsd"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)  # it looks whether the program is there
    unit = folder / "walnatsd@shop.service"
    unit.write_text(UNIT.read_text().replace(INSTALLED, str(installed)))
    ended = subprocess.run(["systemd-analyze", *command, unit], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.needs_program("systemd-analyze")
def test_systemd_understands_every_line(tmp_path) -> None:
    assert analyze(tmp_path, "verify", "--man=no") == ""


@pytest.mark.needs_program("systemd-analyze")
def test_it_is_locked_in_as_far_as_a_network_daemon_can_be(tmp_path) -> None:
    said = analyze(tmp_path, "security", "--offline=yes", "--threshold=15", "--no-pager")  # of 100, where 100 is open
    assert "Overall exposure level" in said


def test_the_time_to_stop_is_above_the_time_that_a_stop_takes() -> None:
    [stop] = settings("TimeoutStopSec")
    assert float(stop) > Config().shutdown_timeout


def test_it_waits_for_readiness_and_restarts_all_but_a_bad_config() -> None:
    assert settings("Type") == ["notify"]
    assert settings("Restart") == ["always"]
    assert settings("RestartPreventExitStatus") == [str(BAD_CONFIG)]


@pytest.mark.parametrize("line", [*settings("ExecStart"), settings("ExecReload")[0]])
def test_it_calls_commands_that_there_are(line) -> None:
    program, name, *arguments = line.split()
    assert program == INSTALLED
    assert isinstance(main, click.Group)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.make_context(name, arguments).params["file"] == "/etc/walnatsd/%i.yaml"
