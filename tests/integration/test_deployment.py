"""The NATS cluster and the sidecar of deploy/kubernetes, run on loopback with the configs that are shipped."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import yaml

from support.daemon import ANYWHERE, running
from support.foreign import program
from support.manifests import resource
from support.nats_server import free_port
from support.waiting import until
from walnatsd.broker.embedded import find_binary

TOKEN = "t12e4"
SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


class Node:
    """A node of the stateful set, on ports of this machine."""

    def __init__(self, name: str, folder: Path, clients: int, monitor: int, cluster: dict[str, int]) -> None:
        self.name = name
        self.url = f"nats://127.0.0.1:{clients}"
        self.monitor = f"http://127.0.0.1:{monitor}"
        self.folder = folder / name
        self.folder.mkdir()
        text: str = resource("ConfigMap", "nats")["data"]["nats.conf"]
        text = re.sub(r"nats-route://(nats-\d)\.nats:6222", lambda it: f"nats-route://127.0.0.1:{cluster[it[1]]}", text)
        for shipped, here in {
            "port: 4222": f"listen: 127.0.0.1:{clients}",
            "http_port: 8222": f"http: 127.0.0.1:{monitor}",
            "port: 6222": f"listen: 127.0.0.1:{cluster[name]}",
            "/data": str(self.folder / "data"),
            "/var/run/nats": str(self.folder),
        }.items():
            assert text.count(shipped) == 1, shipped
            text = text.replace(shipped, here)
        (self.folder / "nats.conf").write_text(text)
        self.process: asyncio.subprocess.Process | None = None

    async def pre_stop(self) -> None:
        """What Kubernetes runs before it stops the node."""
        [container] = resource("StatefulSet", "nats")["spec"]["template"]["spec"]["containers"]
        program_name, *arguments = container["lifecycle"]["preStop"]["exec"]["command"]
        assert program_name == "nats-server"
        here = [it.replace("/var/run/nats", str(self.folder)) for it in arguments]
        hook = await asyncio.create_subprocess_exec(find_binary(), *here)
        assert await hook.wait() == 0

    async def is_healthy(self) -> bool:
        """Whether every probe of the stateful set would pass."""
        [container] = resource("StatefulSet", "nats")["spec"]["template"]["spec"]["containers"]
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session:
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    async with session.get(self.monitor + container[probe]["httpGet"]["path"]) as response:
                        if response.status != 200:
                            return False
            return True
        return False


@contextlib.asynccontextmanager
async def stateful_set(folder: Path) -> AsyncIterator[list[Node]]:
    names = [f"nats-{number}" for number in range(resource("StatefulSet", "nats")["spec"]["replicas"])]
    cluster = {name: free_port() for name in names}
    nodes = [Node(name, folder, free_port(), free_port(), cluster) for name in names]
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            command = [find_binary(), "-c", str(node.folder / "nats.conf"), "-l", str(node.folder / "nats.log")]
            environ = {"POD_NAME": node.name, "NATS_TOKEN": TOKEN}
            node.process = await stack.enter_async_context(program(*command, environ=environ, piped=False))
        for node in nodes:
            await until(node.is_healthy, timeout_s=60)
        yield nodes


async def test_the_shop_is_ready_on_the_cluster_and_goes_on_when_a_node_is_taken_away(tmp_path) -> None:
    config = yaml.safe_load(resource("ConfigMap", "shop-walnatsd")["data"]["walnatsd.yaml"])
    async with stateful_set(tmp_path) as nodes:
        config["nats"]["servers"] = [node.url for node in nodes]
        config |= ANYWHERE | {"monitoring": {"listen": "127.0.0.1:0"}, "shutdown_timeout": 10}
        environ = {"NATS_TOKEN": TOKEN, "WEBHOOK_SECRET": SECRET}
        async with running(yaml.safe_dump(config), environ=environ, ready=False) as sidecar:
            await until(sidecar.is_ready, timeout_s=60)
            await sidecar.emit("order-placed", '{"order_id": 1, "item": "hat"}')
            await nodes[0].pre_stop()
            assert nodes[0].process is not None
            async with asyncio.timeout(30):
                await nodes[0].process.wait()
            await until(sidecar.is_ready, timeout_s=60)
            await sidecar.emit("order-placed", '{"order_id": 2, "item": "hat"}')
