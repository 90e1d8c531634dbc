"""deploy/prometheus and deploy/grafana speak of metrics and labels that there are, and every alert has its page."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from metrics_table import Described, described
from support.monitoring import ALERT_RULES, DASHBOARD, PROMETHEUS, RULES, dashboard_queries
from walnatsd.model.gate_state import GateState
from walnatsd.model.refusal import Reason

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "operating" / "alerts"
SAMPLES: dict[str, Described] = {sample: each for each in described() for sample in each.samples}
OF_PROMETHEUS = {"instance", "job", "le"}
QUERIES = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERT_RULES),
    *(pytest.param(query, id=f"{title} {number}") for number, (title, query) in enumerate(dashboard_queries())),
]


def metrics_of(query: str) -> set[str]:
    return set(re.findall(r"\b(?:walnatsd|process)_\w+", query))


def selectors_of(query: str) -> Iterator[tuple[str, str, str]]:
    """Each condition on a label: metric, label, value."""
    for metric, conditions in re.findall(r"\b(\w+)\{([^}]*)\}", query):
        for label, value in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', conditions):
            yield metric, label, value


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_the_code_has(query) -> None:
    metrics = metrics_of(query)
    assert metrics or query.startswith("up{"), query
    assert metrics <= SAMPLES.keys()
    labels = {label for metric in metrics for label in SAMPLES[metric].labels} | OF_PROMETHEUS
    for grouped in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", query):
        assert {label.strip() for label in grouped.split(",")} <= labels, query
    for metric, label, value in selectors_of(query):
        if metric == "up" or label in OF_PROMETHEUS:
            continue
        assert label in SAMPLES[metric].labels, f"{metric} has no label {label}"
        if not value.startswith("$"):
            known = {*Reason, *GateState, *re.findall(r"[\w-]+", SAMPLES[metric].meaning)}
            for alternative in value.split("|"):
                assert any(re.fullmatch(alternative, word) for word in known), f"{label} is never {alternative}"


@pytest.mark.parametrize("rule", ALERT_RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_page_that_says_what_it_means_and_what_to_do(rule) -> None:
    page = ROOT / rule["annotations"]["runbook"]
    text = page.read_text()
    assert text.splitlines()[0] == f"# {rule['alert']}"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["What it means", "What is at stake", "What to do"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    index = (PAGES.parent / "README.md").read_text()
    assert f"| [{rule['alert']}](alerts/{page.name}) | {rule['labels']['severity']} |" in index


def test_there_are_no_pages_without_an_alert() -> None:
    assert {page.name for page in PAGES.iterdir()} == {Path(it["annotations"]["runbook"]).name for it in ALERT_RULES}


def test_an_alert_names_only_labels_that_its_expression_keeps() -> None:
    for rule in ALERT_RULES:
        kept = {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in by.split(",")}
        if not re.search(r"\b(?:sum|max|count)\b", rule["expr"]):
            kept |= {"instance", *(label for name in metrics_of(rule["expr"]) for label in SAMPLES[name].labels)}
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert named <= kept, rule["alert"]


@pytest.mark.needs_program("promtool")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", RULES.name],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "walnatsd.rules.test.yml"],
    ],
    ids=" ".join,
)
def test_prometheus_itself_is_content(command) -> None:
    ended = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_is_made_to_fire_in_a_test_of_the_rules() -> None:
    tests = yaml.safe_load((PROMETHEUS / "walnatsd.rules.test.yml").read_text())["tests"]
    fired = {
        re.search(r'alertname="(\w+)"', sample["labels"]).group(1)  # type: ignore[union-attr]
        for test in tests
        for check in test["promql_expr_test"]
        for sample in check["exp_samples"]
    }
    assert fired == {rule["alert"] for rule in ALERT_RULES}


def fields_of(value: Any, path: str = "") -> set[str]:
    match value:
        case dict():
            return {path}.union(*(fields_of(each, f"{path}/{key}") for key, each in value.items()))
        case list():
            return {path}.union(*(fields_of(each, f"{path}[{number}]") for number, each in enumerate(value)))
        case _:
            return {path}


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    """Read with the types that Grafana publishes, and written again: what they don't know is gone."""
    register_default_plugins()
    shipped = json.loads(DASHBOARD.read_text())
    read = Dashboard.from_json(json.loads(DASHBOARD.read_text()))
    written = json.loads(json.dumps(read, cls=JSONEncoder))
    assert fields_of(shipped) - fields_of(written) == set()


def test_the_dashboard_is_laid_out_without_overlaps() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels: list[dict[str, Any]] = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    for panel in panels:
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_the_legends_of_the_dashboard_name_labels_that_the_query_keeps() -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            kept = {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", query) for label in by.split(",")}
            if not re.search(r"\b(?:sum|max|count)\b", query):
                kept.add("instance")
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, query
