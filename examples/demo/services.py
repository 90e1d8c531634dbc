"""A service of the demo: a receiver and the sidecar beside it, in a process each."""

import contextlib
import functools
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import yaml
from children import Child, running

HERE = Path(__file__).parent
HOST = "127.0.0.1"


class Service:
    """A running service."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.grpc = ""
        """Address of the sidecar, once it listens."""
        self.ready = False
        """Whether the sidecar has registered what its config declares."""
        self.nats_server: int | None = None
        """Process id of the nats-server, where this sidecar runs it."""
        self.children: list[Child] = []

    def kill(self) -> None:
        """Kill all of it at once, as the kernel does when memory runs out: no goodbye, nothing handed back."""
        if self.nats_server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.nats_server, signal.SIGKILL)
        for child in self.children:
            child.kill()

    def read_log(self, line: str) -> None:
        """Learn from a line of the sidecar's log."""
        with contextlib.suppress(json.JSONDecodeError):
            match json.loads(line):
                case {"message": "listening", "grpc": str(address)}:
                    self.grpc = address
                case {"message": "started the embedded nats-server", "pid": int(pid)}:
                    self.nats_server = pid
                case {"message": "ready"}:
                    self.ready = True


@contextlib.asynccontextmanager
async def serving(
    name: str, folder: Path, nats_port: int, on_line: Callable[[str, str], None]
) -> AsyncIterator[Service]:
    """Run a service while the body runs; `on_line` gets its name and each line that its receiver prints."""
    service = Service(name)
    async with contextlib.AsyncExitStack() as stack:
        with socket.create_server((HOST, 0)) as door:
            service.children.append(
                await stack.enter_async_context(
                    running(
                        f"the receiver {name}",
                        *(sys.executable, "-m", "uvicorn", "receiver:app", "--app-dir", str(HERE)),
                        *("--log-level", "warning", "--fd", str(door.fileno())),
                        on_line=functools.partial(on_line, name),
                        pass_fds=[door.fileno()],
                    )
                )
            )
            config = folder / f"{name}.yaml"
            config.write_text(config_text(door.getsockname()[1], nats_port))
        service.children.append(
            await stack.enter_async_context(
                running(
                    f"the sidecar of {name}",
                    *(sys.executable, "-m", "walnatsd", "run", "--config", str(config)),
                    on_line=service.read_log,
                )
            )
        )
        yield service


def config_text(receiver_port: int, nats_port: int) -> str:
    """The config beside this file, on ports that nobody else uses. The data directory is beside the config's file."""
    config = yaml.safe_load((HERE / "walnatsd.yaml").read_text())
    config["nats"]["embedded"]["port"] = nats_port
    for server in ("grpc", "http", "admin"):
        config[server]["listen"] = f"{HOST}:0"
    for actor in config["actors"]:
        actor["url"] = f"http://{HOST}:{receiver_port}/"
    return yaml.safe_dump(config, sort_keys=False)


def free_port() -> int:
    """A free port below those that systems give to whoever asks for any, so that it stays free."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
