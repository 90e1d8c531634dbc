"""docs/coming-from-walnats.md: it leaves out nothing of walnats, and names only what is there, before and after."""

import ast
import dataclasses
import inspect
import os
import re
from pathlib import Path

import pytest
import walnats
import walnats.decorators
import walnats.middlewares
import walnats.serializers
import yaml
from cryptography.fernet import Fernet

import walnatsd_client
from walnatsd.config.load import load_text
from walnatsd.payload.codecs import open_codecs

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from-walnats.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
CONFIGS = [text for kind, text in BLOCKS if kind == "yaml"]
INNER = {"Serializer", "get_serializer", "BaseMiddleware", "BaseAsyncMiddleware", "Middleware", "types"}
"""What others are made with; nobody declares or emits anything by it."""


def block(start: str, word: str) -> str:
    """The one block that begins so and has the word in it."""
    [found] = [text for _, text in BLOCKS if text.startswith(start) and word in text]
    return str(found)


def names() -> list[str]:
    return sorted(
        {
            *walnats.__all__,
            *(name for part in (walnats.serializers, walnats.middlewares) for name in part.__all__),
            *(name for name, it in inspect.getmembers(walnats.decorators, inspect.isfunction)),
            *(each.name for each in dataclasses.fields(walnats.Limits)),
            *inspect.signature(walnats.Event).parameters,
            *("emit", "request", "monitor", "register", "uid", "trace_id", "delay", "meta", "sync", "timeout"),
            *(
                "get_d2",
                "get_async_api",
                "with_response",
                "create=",
                "update=",
                "burst",
                "batch",
                "max_polls",
                "poll_delay",
            ),
        }
        - INNER
    )


@pytest.mark.parametrize("name", names())
def test_everything_that_walnats_offers_has_its_place_on_the_page(name: str) -> None:
    assert re.search(rf"\b{re.escape(name)}(?!\w)", PAGE), f"{name} is not on the page"


@pytest.mark.parametrize("text", CONFIGS)
def test_every_config_of_the_page_can_be_used(text: str, tmp_path: Path) -> None:
    config = yaml.safe_load(text)
    declared = config.setdefault("events", [])
    used = {entry["event"] for part in ("actors", "clocks") for entry in config.get(part, [])}
    declared += [{"name": name} for name in sorted(used - {event["name"] for event in declared})]
    environ = {"HMAC_KEY": "secret", "FERNET_KEY": Fernet.generate_key().decode()}
    load_text(yaml.safe_dump(config), file=str(tmp_path / "walnatsd.yaml"), environ=environ)


@pytest.mark.parametrize("text", PYTHON)
def test_every_python_block_names_only_what_the_two_libraries_have(text: str) -> None:
    compile(text, "coming-from-walnats.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for library, path in re.findall(r"\b(walnats|walnatsd)\.([A-Za-z_][\w.]*)", text):
        it = walnats if library == "walnats" else walnatsd_client
        for part in path.rstrip(".").split("."):
            it = getattr(it, part)


def test_the_codecs_read_what_the_serializers_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = {"HMAC_KEY": "secret", "FERNET_KEY": Fernet.generate_key().decode()}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found: dict[str, object] = {"walnats": walnats, "os": os} | vars(walnats.serializers)
    exec(block("# before", "FernetSerializer("), found)
    [event] = load_text(
        block("# after", "codecs:"), file=str(tmp_path / "walnatsd.yaml"), environ=environ
    ).config.events
    codecs = open_codecs(event.codecs, lambda secret: environ[str(secret.env)])
    assert codecs.decode(found["PARCEL_SENT"].encode({"parcel": 7})) == b'{"parcel":7}'  # type: ignore[attr-defined]
