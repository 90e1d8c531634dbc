"""A connection to the server that plays the sidecar; each file says which one does."""

import signal
from collections.abc import AsyncIterator

import pytest

import walnatsd_client as walnatsd
from sidecar_server import Servicer

# A shell has SIGINT ignored for what a script runs in the background, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def conn(sidecar: Servicer) -> AsyncIterator[walnatsd.Connection]:
    async with sidecar.serve() as target, walnatsd.connect(target) as connection:
        yield connection
