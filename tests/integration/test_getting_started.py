"""docs/getting-started.md, block by block and in its order: what it says to type is typed, what it shows must come."""

from pathlib import Path

import pytest

from support.nats_server import free_port
from support.reader import Reader, own_addresses, same
from support.terminal import replaced
from support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "getting-started.md"
PRINTED = "parcel-sent "
"""What the lines of the receiver begin with, unlike those of its log."""


@pytest.mark.needs_program("curl")
async def test_a_new_user_sees_what_the_page_shows(tmp_path) -> None:
    addresses, environ = own_addresses()
    webhook = str(free_port())
    # which of the two states is to be seen depends on who is faster
    reader = Reader(PAGE, tmp_path, addresses, environ, alike={r"\bbreaker-open\b": "open"})
    reader.write("yaml", **{"true": f"{{port: {free_port()}}}", "8000": webhook})
    await reader.type_next()  # check
    async with reader.running(reader.next("sh")) as sidecar:
        receiver = reader.write("python", **{"8000": webhook})
        start = reader.next("sh")
        await until(lambda: sidecar.said("ready"), timeout_s=60, what=f"readiness; {sidecar.lines}")
        async with reader.running(start) as printed:
            await reader.type_next()  # emit
            await reader.sees_next(printed, PRINTED)
            await reader.type_next()  # the same once more

        await reader.type_next()  # nobody is there
        async with reader.running(start) as printed:
            await reader.sees_next(printed, PRINTED)  # and nothing of the duplicate

        well = receiver.read_text()
        receiver.write_text(replaced(well, **{"204": "422"}))
        async with reader.running(start):
            await reader.type_next()  # rejected
            await reader.type_next()  # what is kept of it
        receiver.write_text(well)
        async with reader.running(start) as printed:
            await reader.type_next()  # replayed
            await reader.sees_next(printed, PRINTED)
    assert reader.left == 0


def test_an_output_that_differs_is_seen() -> None:
    assert same("stored as a/1  uid 51bbf40d00294bd8a57ac7830c733402\n", "stored as a/1 uid " + "0" * 32)
    assert same("a\n…\nb\n", "a\nx\ny\nb")
    assert same("a … c\n", "a b c")
    assert not same("stored as a/1\n", "stored as a/2\n")
    assert not same("a\n", "a\nb\n")
