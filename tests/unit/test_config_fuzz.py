"""Whatever stands in the file: a config or a ConfigError that can be printed, never another exception."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from support.any_config import CONFIGS, KEYS, damaged_examples
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError

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
@given(CONFIGS)
def test_any_data_with_the_keys_of_the_config(data) -> None:
    load_or_explain(yaml.safe_dump(data))


@FUZZ
@given(damaged_examples())
def test_the_example_with_damage(data) -> None:
    load_or_explain(yaml.safe_dump(data))


@FUZZ
@given(st.dictionaries(st.lists(KEYS, min_size=1, max_size=4).map("__".join), st.text(max_size=10), max_size=4))
def test_any_environment(variables) -> None:
    load_or_explain("", {f"WALNATSD_{name.upper()}": value for name, value in variables.items()})
