"""docs/metrics.md says of the metrics what their definition says."""

import re

from metrics_table import PAGE, described, page


def test_the_page_is_up_to_date() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "the metrics have changed; run: make docs"


def test_the_text_of_the_page_speaks_of_metrics_that_there_are() -> None:
    samples = {sample for each in described() for sample in each.samples}
    named = set(re.findall(r"`(walnatsd_\w+)`", PAGE.read_text().partition("<!-- generated")[0]))
    assert len(named) > 10
    assert named <= samples


def test_names_follow_the_conventions() -> None:
    for each in described():
        if each.name.startswith("process_"):
            continue
        assert each.name.startswith("walnatsd_")
        assert each.meaning.endswith("."), each.name
        if each.kind == "histogram":
            assert each.name.endswith("_seconds"), each.name
