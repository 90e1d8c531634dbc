"""Every defence of docs/security.md names tests that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
HEAD = "| threat | defence | shown by |"


def rows() -> list[str]:
    """The rows of all tables of threats."""
    found = []
    for table in PAGE.read_text().split(f"{HEAD}\n|---|---|---|\n")[1:]:
        found += table.partition("\n\n")[0].strip().splitlines()
    return found


def test_there_are_tables_of_threats_and_all_have_the_same_head() -> None:
    assert len(rows()) > 10
    assert PAGE.read_text().count("| threat |") == PAGE.read_text().count(f"{HEAD}\n|---|---|---|\n")


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:60])
def test_a_defence_names_tests_that_exist(row) -> None:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 3, "a row is a threat, a defence and its tests"
    assert all(cells)
    named = TEST.findall(cells[2])
    assert named, "a defence names its test as `path/of/test_file.py::test_name`"
    assert TEST.sub("", cells[2]).strip(", ") == ""
    for file, name in named:
        assert name in names_in(ROOT / file), f"there is no test {name} in {file}"


def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
