"""Whatever stands in the file: a config or a ConfigError that can be printed, never another exception."""

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError, known_keys
from walnatsd.config.settings import Config

EXAMPLE = yaml.safe_load(Path(__file__).with_name("full_example.yaml").read_text())
PLACES = (
    (), ("nats",), ("nats", "tls"), ("nats", "token"), ("nats", "embedded"), ("auth",), ("auth", "tokens", 0),
    ("events", 0), ("events", 0, "limits"), ("events", 0, "codecs", 0), ("actors", 0), ("actors", 0, "retry"),
    ("actors", 0, "breaker"), ("clocks", 0),
)  # fmt: skip
KEYS = st.sampled_from(sorted({key for place in PLACES for key in known_keys(place, Config)})) | st.text(max_size=5)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    | st.sampled_from(["30s", "1GiB", "nats://h", "http://h/", "unix:x", "0.0.0.0:1", "a.b", "a-b", "{env: X}", "\0", "1" * 400])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3), max_leaves=8
)
FUZZ = settings(max_examples=80, deadline=None, derandomize=True)


def load_or_explain(text: str, environ: dict[str, str] | None = None) -> None:
    problems = None
    try:
        load_text(text, file="/folder/walnatsd.yaml", environ=environ or {})
    except ConfigError as error:
        problems = [str(problem).encode() for problem in error.problems]
    assert problems != []


@FUZZ
@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text(text) -> None:
    load_or_explain(text)


@FUZZ
@given(st.text(alphabet="[]{}:,-?&*!|>'\"%@` \n\tab1<#", max_size=60))
def test_any_text_of_the_signs_of_yaml(text) -> None:
    load_or_explain(text)


@FUZZ
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_data_with_the_keys_of_the_config(data) -> None:
    load_or_explain(yaml.safe_dump(data))


@st.composite
def damaged_examples(draw: st.DrawFn) -> dict[str, Any]:
    """The contract's example with a few places overwritten by anything."""
    data = copy.deepcopy(EXAMPLE)
    for _ in range(draw(st.integers(1, 4))):
        here: Any = data
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            key = draw(st.sampled_from(keys))
            if not isinstance(here[key], (dict, list)) or not here[key] or draw(st.booleans()):
                here[key] = draw(VALUES)
                break
            here = here[key]
    return data


@FUZZ
@given(damaged_examples())
def test_the_example_with_damage(data) -> None:
    load_or_explain(yaml.safe_dump(data))


@FUZZ
@given(st.dictionaries(st.lists(KEYS, min_size=1, max_size=4).map("__".join), st.text(max_size=10), max_size=4))
def test_any_environment(variables) -> None:
    load_or_explain("", {f"WALNATSD_{name.upper()}": value for name, value in variables.items()})
