"""Parts of the dashboard: how things are written, what is escaped, what the wheel carries."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from walnatsd.dashboard import words
from walnatsd.dashboard.pages import STATIC, page

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, words.UNKNOWN), (0, "0 ms"), (0.00312, "3.12 ms"), (1, "1.0 s"), (59, "59 s"), (90, "1.5 min"), (3600 * 30, "30 h"), (86400 * 3, "3 d")],
)  # fmt: skip
def test_lengths_of_time_are_written_short(amount, text) -> None:
    assert words.seconds(amount) == text


@pytest.mark.parametrize(("per_s", "text"), [(0, "0"), (0.05, "3/min"), (12.345, "12.3/s")])
def test_rates_are_written_short(per_s, text) -> None:
    assert words.rate(per_s) == text


def test_sizes_and_counts_are_written_short() -> None:
    assert [words.size(n) for n in (None, 5, 2048, 3 << 30, 5 << 40)] == [
        words.UNKNOWN,
        "5 B",
        "2.0 KiB",
        "3.0 GiB",
        "5.0 TiB",
    ]
    assert words.count(1234567) == "1\u202f234\u202f567"


def test_signs_that_can_not_be_seen_are_written_as_codes() -> None:
    assert words.visible("a\u202eb\x00\x1b[31m\u200b\n\tc\r\nd") == "a\\u202eb\\u0000\\u001b[31m\\u200b\n\tc\nd"
    assert words.visible("Grüße 🎉 日本") == "Grüße 🎉 日本"


def test_a_history_that_somebody_made_up_is_no_error() -> None:
    for history in (None, {}, {"attempts": 7}, {"attempts": ["x", None]}, {"complete": True}):
        assert words.attempts_in(history) == []


def test_a_text_is_cut_between_signs() -> None:
    body = ("é" * words.MOST_SHOWN_BYTES).encode()
    text, written = words.payload(b"x" + body)
    assert written == "text"
    assert set(text) == {"x", "é"}
    assert words.is_cut(body)
    assert not words.is_cut(b"short")


def test_templates_escape_whatever_is_put_in() -> None:
    answer = page("refusal.html", title="<i>", message='"><script>', reason="<b>")
    for mark in ("<i>", "<b>", "<script>"):
        assert mark not in answer.text


def test_the_templates_are_not_read_before_a_page_is_asked_for() -> None:
    code = "import sys, walnatsd.daemon; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_template_marks_anything_as_safe() -> None:
    for template in (ROOT / "walnatsd/dashboard/templates").iterdir():
        text = template.read_text()
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text


def test_the_wheel_carries_templates_and_files(tmp_path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("walnatsd-*.whl")
    there = set(zipfile.ZipFile(wheel).namelist())
    templates = {path.name for path in (ROOT / "walnatsd/dashboard/templates").iterdir()}
    for name in [*(f"static/{name}" for name in STATIC), *(f"templates/{name}" for name in templates)]:
        assert f"walnatsd/dashboard/{name}" in there
