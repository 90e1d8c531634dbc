"""`walnatsd docs`: documents on standard output, from declarations alone."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from walnatsd.cli import main

SHOP = """
service: {name: shop}
nats: {servers: [tls://nats.example:4222], token: {env: NOT_SET}, tls: {ca_file: gone.pem}}
events:
  - name: order-placed
    description: A customer orders ${x} "now".
    schema: {json_schema: order.json}
    example: &example {id: 1, again: {id: 2}}
    codecs: [{fernet: {keys: [{file: gone.key}]}}]
"""
MAIL = """
service: {name: mail}
events: [{name: order-placed}]
actors:
  - name: confirm
    event: order-placed
    url: http://127.0.0.1:8000/
    headers: {Authorization: {env: NOT_SET}}
    signing_secrets: [{env: NOT_SET}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("shop.yaml", SHOP), ("mail.yaml", MAIL), ("order.json", '{"required": ["id"]}')):
        (tmp_path / name).write_text(text)
    return tmp_path


def docs(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(main, ["docs", *arguments])


@pytest.mark.usefixtures("folder")
def test_asyncapi_of_several_files_without_their_secrets() -> None:
    ended = docs("asyncapi", "-c", "shop.yaml", "-c", "mail.yaml", "--title", "Shop: all of it", "--api-version", "1.0")
    assert (ended.exit_code, ended.stderr) == (0, "")
    document = yaml.safe_load(ended.stdout)
    assert document["info"] == {"title": "Shop: all of it", "version": "1.0"}
    assert document["servers"] == {"nats": {"host": "nats.example:4222", "protocol": "tls"}}
    assert list(document["operations"]) == ["emit.shop.order-placed", "act.mail.order-placed.confirm"]
    assert document["components"]["schemas"]["order-placed"]["schema"] == {"required": ["id"]}
    as_json = docs(
        "asyncapi", "-c", "shop.yaml", "mail.yaml", "--title", "Shop: all of it", "--api-version", "1.0", "--json"
    )
    assert json.loads(as_json.stdout) == document


@pytest.mark.usefixtures("folder")
def test_maps_of_several_files() -> None:
    for kind, start in (("d2", "vars: {d2-config: "), ("mermaid", "---\n")):
        ended = docs(kind, "-c", "shop.yaml", "mail.yaml", "--title", "All")
        assert (ended.exit_code, ended.stderr) == (0, "")
        assert ended.stdout.startswith(start)
        assert ended.stdout.endswith("}\n" if kind == "d2" else "color:#222\n")
        assert '"All"' in ended.stdout


def test_the_default_file_and_the_default_title(folder) -> None:
    (folder / "walnatsd.yaml").write_text(SHOP)
    assert yaml.safe_load(docs("asyncapi").stdout)["info"] == {"title": "shop", "version": "0.0.0"}


def test_yaml_has_no_aliases(folder) -> None:
    (folder / "same.yaml").write_text("service: {name: s}\nevents: [{name: e, example: [&a {x: 1}, *a]}]")
    ended = docs("asyncapi", "-c", "same.yaml")
    assert "*" not in ended.stdout
    assert yaml.safe_load(ended.stdout)["components"]["messages"]["e"]["examples"][0]["payload"] == [{"x": 1}, {"x": 1}]


@pytest.mark.usefixtures("folder")
def test_the_environment_adds_nothing() -> None:
    ended = docs("asyncapi", "-c", "shop.yaml", WALNATSD_SERVICE__NAME="elsewhere", WALNATSD_NONSENSE="1")
    assert (yaml.safe_load(ended.stdout)["info"]["title"], ended.stderr) == ("shop", "")


def test_a_file_that_names_no_service_is_warned_of(folder) -> None:
    (folder / "nameless.yaml").write_text("events: []")
    ended = docs("mermaid", "-c", "nameless.yaml")
    assert ended.exit_code == 0
    assert ended.stderr == "warning: nameless.yaml: service.name is not set; its place is taken by the host name\n"


def test_all_that_is_wrong_in_all_files_is_told_at_once(folder) -> None:
    (folder / "bad.yaml").write_text("events: [{name: e, schema: {json_schema: gone.json}}]\nmax_jobs: 0")
    ended = docs("d2", "-c", "bad.yaml", "-c", "gone.yaml")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "bad.yaml can't be used:\n  events[0].schema: can't read" in ended.stderr
    assert "\n  max_jobs: should be greater than 0; this is 0 (line 2)" in ended.stderr
    assert "gone.yaml can't be used:\n  can't read it: No such file or directory" in ended.stderr


def test_a_schema_that_is_not_there_is_an_error(folder) -> None:
    (folder / "order.json").unlink()
    ended = docs("asyncapi", "-c", "shop.yaml")
    assert ended.exit_code == 2
    assert "events[0].schema: can't read" in ended.stderr


def test_files_that_contradict_each_other_are_an_error(folder) -> None:
    (folder / "again.yaml").write_text(MAIL.replace("mail", "other"))
    ended = docs("mermaid", "-c", "mail.yaml", "again.yaml")
    assert ended.exit_code == 2
    assert ended.stderr == "error: the actor 'confirm' of 'order-placed' is declared by 'mail' and 'other'\n"


@pytest.mark.usefixtures("folder")
def test_the_command_is_there() -> None:
    ended = CliRunner().invoke(main, ["docs", "mermaid", "-c", "mail.yaml"])
    assert ended.exit_code == 0
    assert "confirm" in ended.stdout
