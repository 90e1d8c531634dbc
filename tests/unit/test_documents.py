"""The documents agree with the code: rooms, layers, links."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [ROOT / name for name in listed.splitlines()]


def after(mark: str) -> str:
    """The block of the page on the architecture that follows a mark, up to an empty line."""
    return ARCHITECTURE.read_text().partition(f"<!-- {mark} -->\n")[2].partition("\n\n")[0]


def rooms_in_the_code() -> set[str]:
    folders = {path.parent.name for path in (ROOT / "walnatsd").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "walnatsd").glob("*.py")} - {"__init__", "__main__"}
    return folders | modules


def test_the_architecture_names_the_rooms_that_there_are_and_no_others() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", after("rooms"), re.MULTILINE))
    assert named == rooms_in_the_code()


def test_the_architecture_shows_the_layers_that_make_check_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert after("layers").splitlines()[1:-1] == [layer.replace("walnatsd.", "") for layer in layers]


def test_every_room_has_a_layer_but_the_stubs() -> None:
    layered = {name for line in after("layers").splitlines()[1:-1] for name in line.split(" | ")}
    assert layered == rooms_in_the_code() - {"v1"}


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document) -> None:
    for link in LINK.findall(document.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(path), f"there is no heading for {link}"


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    for path in DECISIONS:
        title = path.read_text().splitlines()[0].removeprefix(f"# {path.name[:4]} ")
        assert f"[{path.name[:4]}]({path.name}) | {title} |" in index


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_a_page_with_context_decision_and_consequences(decision) -> None:
    text = decision.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) < 60
