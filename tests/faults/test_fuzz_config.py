"""Files of every kind to `walnatsd check`: it accepts them, or says what is wrong and where; never a traceback."""

import json
import re
from collections.abc import Mapping

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import strategies as st

from support import fuzz
from support.any_config import CONFIGS, EXAMPLE_TEXT, damaged_examples
from walnatsd.cli import main

TOML = """
max_jobs = 16
[service]
name = "warehouse"
[[events]]
name = "counts"
limits = {age = "7d", messages = 10}
"""
DATA = CONFIGS | damaged_examples()


def indented(data: object) -> bytes:
    return json.dumps(data, indent=1, default=str).encode()


def as_json(data: object) -> bytes:
    return json.dumps(data, default=str).encode()


def as_yaml(data: object) -> bytes:
    return yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "replace")


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """A text with pieces taken out, doubled, or overwritten."""
    raw = text.encode()
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(raw)))
        end = draw(st.integers(begin, min(len(raw), begin + 20)))
        piece = draw(
            st.sampled_from([b"", raw[begin:end] * 2, b"\t", b"\n", b": ", b"&a ", b"*a ", b"!!x ", b"{", b"\x00"])
        )
        raw = raw[:begin] + (draw(st.binary(max_size=4)) if draw(st.booleans()) else piece) + raw[end:]
    return raw


FILES: Mapping[str, st.SearchStrategy[bytes]] = {
    "any bytes": st.binary(max_size=60),
    "any text": st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    "yaml": DATA.map(as_yaml),
    "json": DATA.map(as_json) | DATA.map(indented),
    "the example, its text damaged": damaged(EXAMPLE_TEXT),
    "toml": damaged(TOML) | st.just(TOML.encode()),
}
WHOLE_FILE = ("it is not UTF-8 text", "not valid YAML", "the file is a mapping of keys")


def see_verdict(result: Result) -> None:
    """See that a file is fine, or that each thing that is wrong is told in a line with its place."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code in (0, 1, 2)
    told = [line for line in result.stderr.split("\n") if line and not line.startswith("warning: ")]
    if result.exit_code != 2:
        assert told == [], told
        return
    heads = [line for line in told if re.fullmatch(r"error: .+ can't be used:", line)]
    problems = [line for line in told if line.startswith("  ")]
    assert heads, told
    assert problems, told
    assert len(heads) + len(problems) == len(told), told
    for problem in problems:
        assert problem.strip().startswith(WHOLE_FILE) or re.match(r"  \S.*?: \S", problem) or "(line" in problem, (
            problem
        )


@pytest.mark.parametrize("kind", FILES)
async def test_whatever_stands_in_the_file_check_says_what_is_wrong_and_where(tmp_path, kind) -> None:
    good, file = tmp_path / "good.yaml", tmp_path / "walnatsd.yaml"
    good.write_text("events: [{name: counts}]\n")

    async def check(raw: bytes) -> None:
        file.write_bytes(raw)
        see_verdict(CliRunner().invoke(main, ["check", "-c", str(file)]))
        see_verdict(CliRunner().invoke(main, ["check", "-c", str(good), "--against", str(file), "--json"]))

    await fuzz.for_all(FILES[kind], check, short=25, long=500)
