"""The table of what came out of all scenarios, for people. Pure."""

from collections.abc import Mapping
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]
"""What `Verdict.as_json` gave and facts of the run, by the name of the scenario."""

HEAD = """| scenario | broken | messages | failed tries | calls of actors | lost | duplicates | seen after the ack | wrong answers | held |
|---|---|---:|---:|---:|---:|---:|---:|---:|---|"""


def table(rows: Rows) -> str:
    """One line for each scenario, in the order of their numbers; what was measured besides and what is wrong below."""
    ordered = sorted(rows.items(), key=lambda item: item[1]["number"])
    lines = [HEAD, *(_row(name, row) for name, row in ordered)]
    more = [f"- `{name}`: {said}." for name, row in ordered if (said := _more(row))]
    return "\n".join([*lines, "", *more] if more else lines)


def runs(rows: Rows) -> str:
    """When and where the scenarios ran, and how much else the machine had to do then (load average before)."""
    places: dict[str, list[str]] = {}
    for name, row in sorted(rows.items(), key=lambda item: item[1]["number"]):
        took = f"{row['seconds']:.0f} s" if "seconds" in row else "broken off"
        places.setdefault(f"{row['on']}, {row['machine']}, seed {row['seed']}", []).append(
            f"`{name}` ({took}, load {row['load_before']:g})"
        )
    return "\n".join(f"- {place}: {', '.join(names)}" for place, names in places.items())


def _row(name: str, row: Mapping[str, Any]) -> str:
    held = "yes" if row["good"] else "**no**"
    if "findings" not in row:
        return f"| `{name}` | | | | | | | | | {held} |"
    found = row["findings"]
    broken = ", ".join(f"{count} x {what}" for what, count in row["faults"].items())
    forgotten = found["forgotten_acks"]
    cells = (
        f"`{name}`",
        broken,
        f"{found['acknowledged']:,}",
        f"{found['refusals']:,}",
        f"{found['sightings']:,}",
        len(found["lost"]),
        f"{found['duplicates'] - forgotten:,} of {row['duplicates_bound']:,}",
        f"{len(found['after_ack'])}{f' ({forgotten} in a hole)' if forgotten else ''}",
        len(found["wrong_answers"]),
        held,
    )
    return f"| {' | '.join(map(str, cells))} |"


def _more(row: Mapping[str, Any]) -> str:
    because = row.get("findings", {}).get("refused_because", {})
    refused = [f"{count:,} tries failed with {why}" for why, count in because.items()]
    figures = [f"{name} {figure:g}" for name, figure in row.get("figures", {}).items()]
    return "; ".join([*refused, *[", ".join(figures)] * bool(figures), *row["problems"]])
