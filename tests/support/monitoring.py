"""What is shipped for Prometheus and Grafana, and a real Prometheus."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from support.foreign import program
from support.nats_server import free_port
from support.waiting import until

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "walnatsd.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "walnatsd.json"
ALERT_RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]


def dashboard_queries() -> list[tuple[str, str]]:
    """All queries of the dashboard, each with the title of its panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]


def hasty_rules() -> str:
    """The rules that are shipped, for the impatient: what is so for a moment fires, and rates are those of some seconds."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    return re.sub(r"\[\d+m\]", "[20s]", yaml.safe_dump(rules, width=1000))


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def query(self, query: str) -> list[dict[str, Any]]:
        """Ask for the value of an expression now."""
        async with self._session.get(f"{self._url}/api/v1/query", params={"query": query}) as response:
            answer = await response.json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]["result"]

    async def is_ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.get(f"{self._url}/-/ready") as response:
                return response.status == 200
        return False

    async def summaries(self) -> dict[str, str]:
        """What the alerts that fire say, by their names."""
        async with self._session.get(f"{self._url}/api/v1/alerts") as response:
            alerts = (await response.json())["data"]["alerts"]
        return {it["labels"]["alertname"]: it["annotations"]["summary"] for it in alerts if it["state"] == "firing"}

    async def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire, each with its actor or event."""
        found = await self.query('ALERTS{alertstate="firing"}')
        return {(it["metric"]["alertname"], it["metric"].get("actor", it["metric"].get("event", ""))) for it in found}


@contextlib.asynccontextmanager
async def prometheus(folder: Path, target: str, *, rules: str = "") -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes one sidecar every half second.

    `rules` is the text of a rule file.
    """
    _write_config(folder, target, rules)
    at = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={at}", "--log.level=warn",
    ]  # fmt: skip
    async with program(*command) as process, aiohttp.ClientSession() as session:
        started = Prometheus(f"http://{at}", session)
        await until(started.is_ready, timeout_s=30)
        yield started
        process.terminate()
        async with asyncio.timeout(20):
            await process.wait()


def _write_config(folder: Path, target: str, rules: str) -> None:
    folder.mkdir()
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    [job] = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "walnatsd.rules.yml").write_text(rules or "groups: []")
