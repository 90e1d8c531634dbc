"""A connection to the server that plays the sidecar; each file says which one does."""

from collections.abc import AsyncIterator

import pytest

import walnatsd_client as walnatsd
from sidecar_server import Servicer
from support.interrupts import heed_interrupts

heed_interrupts()


@pytest.fixture
async def conn(sidecar: Servicer) -> AsyncIterator[walnatsd.Connection]:
    async with sidecar.serve() as target, walnatsd.connect(target) as connection:
        yield connection
