"""The documentation as a site: it is built without warnings, is up to date, and asks no other host for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = pages.made()
ASKS = re.compile(r"""<(?:script|img|iframe|source|video)\b[^>]*?\ssrc=["']?([^"'\s>]+)|<link\b([^>]*)>""")


def build(docs: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build the site from a folder, as `make site` does."""
    config = (ROOT / "mkdocs.yml").read_text().replace("docs_dir: docs", f"docs_dir: {docs}")
    config = config.replace("docs/generate/", f"{DOCS}/generate/")
    file = target.parent / f"{target.name}.yml"
    file.write_text(config)
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(file), "-d", str(target)],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    built = build(DOCS, target)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return target


@pytest.mark.parametrize("path", list(MADE), ids=lambda path: path.name)
def test_a_generated_page_is_up_to_date(path) -> None:
    assert path.read_text() == MADE[path](), "run: make docs"


def test_every_page_is_on_the_site(site) -> None:
    sources = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    wanted = {re.sub(r"README\.html$", "index.html", name) for name in sources}
    assert wanted <= {path.relative_to(site).as_posix() for path in site.rglob("*.html")}


def test_no_page_asks_another_host_for_anything(site) -> None:
    files = list(site.rglob("*.html"))
    for page in files:
        for found in ASKS.finditer(page.read_text()):
            asked = found[1] or found[2]
            if 'rel="canonical"' not in asked:
                assert "//" not in asked, f"{page.name}: {found[0]}"
        assert 'class="mermaid"' not in page.read_text()  # which the theme would fetch from elsewhere
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", style.read_text()), style.name


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("new.md", "# New\n", "not included in the"),
        ("faq.md", "# FAQ\n\n[there](nowhere.md)\n", "nowhere.md"),
        ("faq.md", "# FAQ\n\n[there](concepts.md#nothing)\n", "nothing"),
    ],
    ids=["a page that is not in the navigation", "a link to no page", "a link to no heading"],
)
def test_the_build_fails_on(name, text, told, tmp_path) -> None:
    docs = tmp_path / "docs"
    subprocess.run(["cp", "-r", str(DOCS), str(docs)], check=True)
    (docs / name).write_text(text)
    built = build(docs, tmp_path / "site")
    assert built.returncode != 0
    assert told in built.stderr


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_pictures_are_shown_where_they_were_taken(taken, tmp_path) -> None:
    docs, pictures = tmp_path / "docs", tmp_path / "build" / "screenshots"
    subprocess.run(["cp", "-r", str(DOCS), str(docs)], check=True)
    if taken:
        pictures.mkdir(parents=True)
        for name in re.findall(r"<!-- picture: ([\w-]+):", (docs / "operating/dashboard.md").read_text()):
            (pictures / f"{name}.png").write_bytes(b"\x89PNG")
    built = build(docs, tmp_path / "site")
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site/operating/dashboard.html").read_text()
    assert ('src="../pictures/overview.png"' in page) == taken
    assert "<!-- picture" not in page
    assert (tmp_path / "site/pictures/overview.png").exists() == taken


def test_every_picture_on_a_page_is_one_that_the_tests_in_a_browser_take() -> None:
    tests = (ROOT / "tests/integration/test_dashboard_browser.py").read_text()
    taken = set(re.findall(r'await picture\(page, "([\w-]+)"\)', tests))
    shown = {name for page in DOCS.rglob("*.md") for name in re.findall(r"<!-- picture: ([\w-]+):", page.read_text())}
    assert shown
    assert shown <= taken


def test_ci_builds_the_site_after_the_tests_that_take_its_pictures() -> None:
    steps = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert steps.index("test") < steps.index("site")
    tested = re.search(r"^screenshots:.*\n.*(tests/\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tested is not None
    assert "picture(" in (ROOT / tested[1]).read_text()


def test_links_out_of_the_documentation_become_paths(site) -> None:
    text = (site / "architecture.html").read_text()
    assert "../walnatsd" not in text
    assert "walnatsd/broker/publisher.py</code> in the repository" in text
