"""The JSON Schema of the config file agrees with what the daemon reads."""

import socket
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from walnatsd.cli.schema import config_schema
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError

EXAMPLE = yaml.safe_load(Path(__file__).with_name("full_example.yaml").read_text())
VALIDATOR = jsonschema.Draft202012Validator(config_schema())


def test_it_is_a_valid_schema_of_draft_2020_12() -> None:
    assert config_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(config_schema())


def test_it_accepts_the_example_of_the_contract() -> None:
    VALIDATOR.validate(EXAMPLE)


def test_every_option_is_documented_in_it() -> None:
    schema = config_schema()
    parts: dict[str, Any] = {"": schema} | schema["$defs"]
    assert [
        f"{part}.{name}"
        for part, its in parts.items()
        for name, option in its["properties"].items()
        if "description" not in option and "description" not in parts[option.get("$ref", "").rpartition("/")[2]]
    ] == []


def test_it_is_the_same_on_every_machine() -> None:
    assert socket.gethostname() not in str(config_schema()["$defs"]["Service"])


GOOD = [
    {}, {"nats": {"embedded": True}}, {"nats": {"embedded": {"port": 4222}}}, {"nats": {"embedded": False}},
    {"emit": {"timeout": 0.25}}, {"emit": {"timeout": "250ms"}}, {"dead_letters": {"bytes": "1.5GiB", "pause_actor_after": None}},
    {"events": [{"name": "a.b-c_D"}]}, {"http": {"listen": "unix:/run/x"}}, {"http": {"allowed_hosts": ["a"]}},
    {"nats": {"tls": None}},
]  # fmt: skip
BAD = [
    [], {"nonsense": 1}, {"nats": {"server": []}}, {"nats": {"embedded": {"prt": 1}}}, {"emit": {"timeout": "soon"}},
    {"emit": {"timeout": "1w"}}, {"dead_letters": {"bytes": "1KB"}}, {"events": [{}]}, {"events": [{"name": "a b"}]},
    {"events": [{"name": "a..b"}]}, {"events": {"name": "a"}}, {"log": {"level": "loud"}}, {"max_jobs": 0},
    {"nats": {"token": "secret"}}, {"nats": {"servers": []}}, {"events": [{"name": "e", "replicas": 6}]},
]  # fmt: skip


@pytest.mark.parametrize("data", GOOD, ids=repr)
def test_what_the_daemon_takes_fits_the_schema(data) -> None:
    load_text(yaml.safe_dump(data), file=None, environ={})
    VALIDATOR.validate(data)


@pytest.mark.parametrize("data", BAD, ids=repr)
def test_what_the_daemon_refuses_does_not_fit_the_schema(data) -> None:
    with pytest.raises(ConfigError):
        load_text(yaml.safe_dump(data), file=None, environ={})
    assert not VALIDATOR.is_valid(data)
