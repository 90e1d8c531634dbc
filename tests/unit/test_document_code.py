"""The code on the pages: Python that compiles and names only what there is, YAML that `walnatsd check` accepts, commands that exist."""

import ast
import inspect
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import walnats
import walnats.decorators
import walnats.middlewares
import yaml
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

import walnatsd_client
from walnatsd.cli import main
from walnatsd.config.load import load_text
from walnatsd.config.settings import Config

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[Any]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        text = (ROOT / name).read_text()
        for found in BLOCK.finditer(text):
            if found[2] == language:
                line = text[: found.start()].count("\n") + 1
                yield pytest.param(textwrap.dedent(found[3]), id=f"{name}:{line}")


# ---- Python


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_compiles_and_names_only_what_there_is(code: str) -> None:
    tree = compile(code, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    modules = {"walnats": walnats, "walnatsd_client": walnatsd_client, "walnatsd": walnatsd_client}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            thing_of(node, modules)
        if isinstance(node, ast.Call) and (called := thing_of(node.func, modules)) is not None:
            parameters = inspect.signature(called).parameters
            for keyword in node.keywords:
                assert keyword.arg in parameters, f"{ast.unparse(node.func)} takes no {keyword.arg}"


def thing_of(node: ast.expr, modules: dict[str, ModuleType]) -> Any:
    """What a dotted name that begins with one of the modules stands for; None for other expressions."""
    if isinstance(node, ast.Name):
        return modules.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := thing_of(node.value, modules)) is not None:
        assert hasattr(owner, node.attr), f"there is no {ast.unparse(node)}"
        return getattr(owner, node.attr)
    return None


# ---- YAML


def configs() -> Iterator[Any]:
    """Those that are parts of a config file."""
    for parameter in blocks("yaml"):
        content = yaml.safe_load(parameter.values[0])
        if isinstance(content, dict) and set(content) & set(Config.model_fields):
            yield parameter


@pytest.mark.parametrize("text", list(configs()))
def test_a_config_passes_the_check(text: str, tmp_path: Path) -> None:
    content = completed(yaml.safe_load(text))
    for event in content["events"]:
        write_schema(event.get("schema", {}), tmp_path)
    file = str(tmp_path / "walnatsd.yaml")
    load_text(
        yaml.safe_dump(content), file=file, environ={}, declarations_only=True
    )  # without secrets and certificates


def write_schema(schema: dict[str, str], folder: Path) -> None:
    """Write the file that an event refers to."""
    if path := schema.get("json_schema") or schema.get("protobuf"):
        (folder / path).parent.mkdir(exist_ok=True)
        package, _, message = schema.get("message", "").rpartition(".")
        file = FileDescriptorProto(name="its.proto", package=package, message_type=[DescriptorProto(name=message)])
        described = FileDescriptorSet(file=[file]).SerializeToString()
        (folder / path).write_bytes(described if "protobuf" in schema else b"{}")


def completed(content: dict[str, Any]) -> dict[str, Any]:
    """Declare what a part leaves to the rest of the file: the events of its actors and clocks."""
    events = list(content.get("events") or [])
    named = {event.get("name") for event in events}
    for part in [*(content.get("actors") or []), *(content.get("clocks") or [])]:
        if part.get("event") and part["event"] not in named:
            named.add(part["event"])
            events.append({"name": part["event"]})
    return content | {"events": events}


# ---- commands


def commands() -> Iterator[Any]:
    """The lines of shell code that call walnatsd."""
    for parameter in blocks("sh"):
        for line in parameter.values[0].replace("\\\n", " ").splitlines():
            if line.lstrip().startswith("walnatsd "):
                yield pytest.param(line.strip(), id=f"{parameter.id} {line.strip()[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_exists_and_takes_these_options(line: str) -> None:
    words = shlex.split(re.split(r"(?<!\S)(?:\||>|&&|;|<)(?!\S)", line)[0], comments=True)[1:]
    command: click.Command = main
    context = click.Context(main, info_name="walnatsd")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        below = command.get_command(context, words[0])
        assert below is not None, f"there is no command {words[0]}"
        command, words = below, words[1:]
    if command is main:
        assert words in (["--version"], ["--help"])
        return
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= options
