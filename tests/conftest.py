"""Fixtures of all tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest

from support import nats_server as nats_server_module
from support import receiver as receiver_module
from support.interrupts import heed_interrupts
from support.nats_server import NatsServer
from support.programs import require_program
from support.receiver import Receiver

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no fault of the code
hypothesis.settings.load_profile("tests")

heed_interrupts()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs_program(name): a program of requirements/programs.txt; else skipped aloud"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs_program"):
        require_program(*mark.args)


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server of the newest version, of this test alone."""
    async with nats_server_module.nats_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that plays actors."""
    async with receiver_module.receiver() as server:
        yield server
