"""Strategies for configs: any data with the keys that there are, and the contract's example with damage."""

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from walnatsd.config.problems import known_keys
from walnatsd.config.settings import Config

EXAMPLE_TEXT = (Path(__file__).parents[1] / "unit/full_example.yaml").read_text()
EXAMPLE = yaml.safe_load(EXAMPLE_TEXT)
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
CONFIGS = st.dictionaries(KEYS, VALUES, max_size=5)
"""Any data with keys of the config."""


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
