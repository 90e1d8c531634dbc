"""docs/operating/walk.md as an operator goes it: the sample service, its sidecar, Prometheus with the alerts that are shipped, the dashboard."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page, expect

from support.browser import browser
from support.monitoring import Prometheus, hasty_rules
from support.nats_server import free_port
from support.reader import Reader, own_addresses
from support.terminal import Terminal, replaced
from support.waiting import until

ROOT = Path(__file__).parents[2]
SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
SHIP = {"event": "order-placed", "actor": "ship"}

pytestmark = [pytest.mark.needs_program(name) for name in ("curl", "prometheus", "chromium")]


class Walk:
    """The page, and what the operator of the test has running."""

    def __init__(self, folder: Path) -> None:
        for part in ("examples/services", "deploy/prometheus"):
            shutil.copytree(ROOT / part, folder / part)
        self.folder = folder
        addresses, environ = own_addresses(monitoring=True)
        self.shop = f"127.0.0.1:{free_port()}"
        self.prometheus = f"127.0.0.1:{free_port()}"
        self.admin = addresses["127.0.0.1:7522"]
        config = folder / "examples/services/walnatsd.yaml"
        # smaller, and on its own addresses
        config.write_text(replaced(config.read_text(), **{"127.0.0.1:8000": self.shop, "1GiB": "16MiB"}))
        self.reader = Reader(
            ROOT / "docs/operating/walk.md",
            folder,
            {**addresses, "127.0.0.1:8000": self.shop},
            {
                **environ,
                "WALNATSD_GRPC": addresses["127.0.0.1:7520"],
                "WALNATSD_NATS__EMBEDDED__PORT": str(free_port()),
                "PORT": self.shop.partition(":")[2],
                "WEBHOOK_SECRET": SECRET,
            },
        )

    @contextlib.asynccontextmanager
    async def sidecar(self) -> AsyncIterator[Terminal]:
        block = replaced(self.reader.next("sh"), **{"whsec_$(openssl rand -base64 32)": SECRET})
        async with self.reader.running(block) as terminal:
            yield terminal

    @contextlib.asynccontextmanager
    async def shop_running(self, block: str) -> AsyncIterator[None]:
        async with self.reader.running(replaced(block, **{"whsec_…": SECRET})) as terminal:
            async with aiohttp.ClientSession() as session:

                async def is_there() -> bool:
                    with contextlib.suppress(aiohttp.ClientError):
                        async with session.get(f"http://{self.shop}/healthz") as response:
                            return response.status == 204
                    return False

                await until(is_there, timeout_s=60, what=f"the shop; {terminal.lines}")
            yield

    @contextlib.asynccontextmanager
    async def alerts(self) -> AsyncIterator[Prometheus]:
        """Prometheus as it is shipped, but for patience."""
        shipped = self.folder / "deploy/prometheus"
        (shipped / "walnatsd.rules.yml").write_text(hasty_rules())
        config = (shipped / "prometheus.yml").read_text()
        timeout = "500ms\n  scrape_timeout: 500ms\n  evaluation_interval: 500ms"
        config = replaced(config, **{"15s\n  evaluation_interval: 15s": timeout})
        (shipped / "prometheus.yml").write_text(config)
        data = f"{self.folder / 'data'} --web.listen-address={self.prometheus}"
        block = replaced(self.reader.next("sh"), **{"/tmp/walk": data})
        async with self.reader.running(block) as terminal, aiohttp.ClientSession() as session:
            server = Prometheus(f"http://{self.prometheus}", session)
            await until(server.is_ready, timeout_s=30, what=f"Prometheus; {terminal.lines}")
            yield server

    async def alert(self, server: Prometheus) -> None:
        """Get the alert that the page shows next, with the words that it shows."""
        name, _, summary = self.reader.next("text").strip().partition("  ")

        async def is_there() -> bool:
            return (await server.summaries()).get(name) == summary

        await until(is_there, timeout_s=60, what=f"{name}: {summary}")


async def value(server: Prometheus, metric: str, **labels: str) -> float:
    condition = ",".join(f'{name}="{of}"' for name, of in labels.items())
    [sample] = await server.query(f"{metric}{{{condition}}}")
    return float(sample["value"][1])


async def open_dashboard(page: Page, walk: Walk, path: str = "") -> None:
    await page.goto(f"http://{walk.admin}/{path}")


async def test_an_operator_goes_from_an_alert_to_an_empty_queue(tmp_path) -> None:
    walk = Walk(tmp_path)
    reader = walk.reader
    async with contextlib.AsyncExitStack() as deployed:
        sidecar = await deployed.enter_async_context(walk.sidecar())
        await until(lambda: sidecar.said("ready"), timeout_s=60, what=f"readiness; {sidecar.lines}")
        start = reader.next("sh")
        server = await deployed.enter_async_context(walk.alerts())
        page = await (await deployed.enter_async_context(browser())).new_page()

        async with walk.shop_running(start):
            await reader.type_next()  # an order is shipped
        await reader.do(reader.next("sh"))  # the new release
        async with walk.shop_running(start):
            await reader.type_next()  # orders go on coming
            await walk.alert(server)

            await open_dashboard(page, walk)
            attention = page.get_by_role("region", name="Needs attention")
            await expect(attention).to_contain_text("ship of order-placed dead letters: 2")
            row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="ship"))
            await expect(row).to_contain_text(reader.next("text").strip())
            await reader.type_next()  # a dead letter
            await row.get_by_role("link", name="ship").click()
            await page.get_by_role("button", name="Pause ship").click()
            await expect(page.get_by_role("status").first).to_contain_text("ship is paused")
            await reader.type_next()  # another order waits

            async def lags() -> bool:
                pending = await value(server, "walnatsd_pending_messages", **SHIP)
                return pending == 1 and await value(server, "walnatsd_oldest_age_seconds", **SHIP) > 0

            await until(lags)

        await reader.do(reader.next("sh"))  # back to the old release
        async with walk.shop_running(start):
            await page.get_by_role("button", name="Resume ship").click()
            await expect(page.get_by_role("status").first).to_contain_text("ship goes on")
            await open_dashboard(page, walk, "dashboard/dead-letters?of=order-placed/ship")
            await page.get_by_role("button", name="Replay all of ship").click()
            await expect(page.get_by_role("main")).to_contain_text("2 dead letters were replayed.")
            await reader.type_next()  # all of them are shipped

            async def is_done() -> bool:
                lag = [
                    await value(server, "walnatsd_pending_messages", **SHIP),
                    await value(server, "walnatsd_ack_pending_messages", **SHIP),
                    await value(server, "walnatsd_oldest_age_seconds", **SHIP),
                    await value(server, "walnatsd_dead_letters_stored"),
                ]
                return not any(lag) and not await server.summaries()

            await until(is_done, timeout_s=60)

        await reader.type_next()  # an order, and nobody is there
        await walk.alert(server)
        await open_dashboard(page, walk, "dashboard/actors/order-placed/ship")
        await expect(page.get_by_role("region", name="State")).to_contain_text("can't connect")
        async with walk.shop_running(start):
            await reader.type_next()  # shipped when somebody is
    assert reader.left == 0
