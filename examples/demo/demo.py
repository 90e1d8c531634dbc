"""The 30-second example, `make demo`: two services share the work of one actor, and one of them is killed half-way.

walnatsd.yaml, receiver.py and publisher.py are what an application has; the other files play the scene and watch it.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from children import Child, DemoError, running, until
from screen import Screen
from services import HERE, Service, free_port, serving
from tally import Tally

NORTH, SOUTH = "north", "south"
NUMBERS = 300
ROW_S = 0.5
PATIENCE_S = 20.0


async def play(screen: Screen, tally: Tally, folder: Path) -> None:
    """Start two services and a publisher, kill one of the services half-way, and let the other one do the rest."""
    nats_port = free_port()
    async with AsyncExitStack() as stack:
        north = await stack.enter_async_context(serving(NORTH, folder, nats_port, tally.count))
        await until(lambda: north.nats_server, *north.children)
        south = await stack.enter_async_context(serving(SOUTH, folder, nats_port, tally.count))
        await until(lambda: north.ready and south.ready, *north.children, *south.children)
        screen.good("north is up: a receiver, and its sidecar, which also runs the nats-server")
        screen.good("south is up: a receiver, and its sidecar, which uses that nats-server")
        command = (sys.executable, str(HERE / "publisher.py"), south.grpc, str(tally.expected))
        publisher = await stack.enter_async_context(running("the publisher", *command, on_line=tally.confirm))
        await until(lambda: tally.emitted, publisher)
        screen.good(f"the publisher emits the numbers 1 to {tally.expected} through south's sidecar")
        await watch(screen, tally, north, south, publisher)


async def watch(screen: Screen, tally: Tally, north: Service, south: Service, publisher: Child) -> None:
    """Show who handles how much, kill north half-way, and wait until all is done or nothing happens any more."""
    screen.start_clock()
    alive = [north, south]
    before = {NORTH: 0, SOUTH: 0}
    news_at = time.monotonic()
    taken_over = False
    while tally.exit_code or north in alive:
        await asyncio.sleep(ROW_S)
        now = {name: tally.handled_by(name) for name in before}
        screen.row(
            len(tally.emitted),
            {name: None if name == NORTH and north not in alive else now[name] - before[name] for name in now},
        )
        for child in (publisher, *(child for each in alive for child in each.children)):
            child.check()
        if now != before:
            before, news_at = now, time.monotonic()
        elif time.monotonic() - news_at > PATIENCE_S:
            return
        if north in alive and 2 * len(tally.distinct) >= tally.expected:
            north.kill()
            alive.remove(north)
            screen.bad("SIGKILL: the receiver north, its sidecar, and the nats-server with it")
        if south.nats_server and not taken_over:
            taken_over = True
            screen.good("south's sidecar runs the nats-server now, with all that was stored")


async def main(numbers: int) -> int:
    """Play the demo; the exit code is 0 if every number was handled."""
    screen, tally = Screen((NORTH, SOUTH)), Tally(numbers, (NORTH, SOUTH))
    screen.title("walnatsd: two services share the work; half-way one of them is killed")
    this = asyncio.current_task()
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        received.append(number)
        if this is not None and len(received) == 1:  # the children are being stopped already
            this.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    try:
        with tempfile.TemporaryDirectory(prefix="walnatsd-demo-") as folder:
            await play(screen, tally, Path(folder))
    except asyncio.CancelledError:
        screen.bad("interrupted; nothing is left running")
        return 128 + received[0]
    except DemoError as error:
        screen.bad(str(error))
        return 1
    screen.tally(tally)
    return tally.exit_code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="how many numbers to emit (default: %(default)s)")
    sys.exit(asyncio.run(main(parser.parse_args().numbers)))
