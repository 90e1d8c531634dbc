"""Two config files: what breaks those who rely on the old one, what does not, and where it stands in the new one."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from walnatsd.cli import main
from walnatsd.config.compatibility import differences
from walnatsd.config.load import load_declarations

ENVIRON = dict.fromkeys(("A", "B", "C"), "secret")


def written(folder: Path, text: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "walnatsd.yaml").write_text(text)
    return str(folder / "walnatsd.yaml")


def told(old: str, new: str, folder: Path) -> list[str]:
    """What differs, each with a sign in front: ! breaks, + does not."""
    one, other = (load_declarations(written(folder / name, text)) for name, text in (("old", old), ("new", new)))
    return [f"{'!' if each.breaks else '+'} {each.problem}" for each in differences(one, other)]


def event(options: str) -> str:
    return f"events: [{{name: e, {options}}}]"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("events: [{name: e}]", "events: [{name: e}]", []),
        ("events: [{name: e}]", "events: []", ["! events: the event 'e' is gone; who emits it is told UNKNOWN_EVENT"]),
        ("events: [{name: e}]", "events: [{name: f}, {name: e}]", ["+ events[0]: the event 'f' is new"]),
        (event("description: Old."), event("description: New."), []),
    ],
)
def test_events(tmp_path, old, new, lines) -> None:
    assert told(old, new, tmp_path) == lines


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            "storage: memory",
            "storage: file",
            ["! storage: was memory, is file, and NATS can't change the storage of a stream"],
        ),
        ("storage: memory", "replicas: 1", []),  # not declared: the server's value stands
        ("replicas: 3", "replicas: 1", ["! replicas: was 3, is 1"]),
        ("replicas: 1", "replicas: 3", ["+ replicas: was 1, is 3"]),
        ("replicas: 1", "duplicate_window: 1m", ["+ duplicate_window: was 120s, is 60s; a uid is forgotten sooner"]),
        (
            "limits: {age: 7d}",
            "limits: {age: 1d}",
            ["! limits.age: was 604800s, is 86400s; older messages are discarded"],
        ),
        ("limits: {age: 1d}", "limits: {age: 7d}", ["+ limits.age: was 86400s, is 604800s"]),
        ("limits: {age: 1d}", "limits: {age: null}", ["+ limits.age: was 86400s, is not limited"]),
        ("limits: {age: 1d}", "limits: {}", []),
        (
            "limits: {}",
            "limits: {messages: 5, bytes: 1KiB}",
            [
                "! limits.messages: was not limited, is 5; the oldest beyond that are discarded",
                "! limits.bytes: was not limited, is 1024; the oldest beyond that are discarded",
            ],
        ),
        (
            "limits: {message_size: 2KiB}",
            "limits: {message_size: 1KiB}",
            ["! limits.message_size: was 2048, is 1024; larger messages are refused"],
        ),
        (
            "limits: {consumers: 5}",
            "limits: {consumers: 9}",
            ["! limits.consumers: was 5, is 9, and NATS can't change this limit of a stream"],
        ),
        (
            "limits: {when_full: refuse}",
            "limits: {when_full: drop_oldest}",
            [
                (
                    "! limits.when_full: the oldest message is dropped when the stream is full, handled or not; "
                    "emits were refused"
                )
            ],
        ),
        (
            "limits: {}",
            "limits: {when_full: refuse}",
            ["+ limits.when_full: emits are refused when the stream is full; the oldest was dropped"],
        ),
    ],
)
def test_streams_and_limits(tmp_path, old, new, lines) -> None:
    assert [line.replace(" events[0].", " ") for line in told(event(old), event(new), tmp_path)] == lines


GZIP, HMAC = "{gzip: {}}", "{hmac: {keys: [{env: A}]}}"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (f"{GZIP}, {HMAC}", "{gzip: {level: 1}}, {hmac: {keys: [{env: A}]}}", []),
        (
            GZIP,
            f"{GZIP}, {HMAC}",
            [
                (
                    "! codecs: were gzip, are gzip, hmac; sidecars with the old file can't read what is emitted, and those with "
                    "the new one can't read what is stored"
                )
            ],
        ),
        (
            HMAC,
            "",
            [
                (
                    "! codecs: were hmac, are none; sidecars with the old file can't read what is emitted, and those with the "
                    "new one can't read what is stored"
                )
            ],
        ),
        (
            HMAC,
            "{hmac: {keys: [{env: A}], hash: sha256}}",
            ["! codecs[0].hmac.hash: was sha512, is sha256; neither file can read what the other one made"],
        ),
        (HMAC, "{hmac: {keys: [{env: A}, {env: B}]}}", ["+ codecs[0].hmac.keys[1]: the key {env: B} is known now"]),
        ("{hmac: {keys: [{env: A}, {env: B}]}}", "{hmac: {keys: [{env: B}, {env: A}]}}", []),
        (
            "{hmac: {keys: [{env: B}, {env: A}]}}",
            "{hmac: {keys: [{env: B}]}}",
            ["+ codecs[0].hmac.keys: the key {env: A}, which only read what is stored, is gone"],
        ),
        (
            "{fernet: {keys: [{file: keys/a}]}}",
            "{fernet: {keys: [{file: keys/a}]}}",
            [],
        ),
        (
            "{fernet: {keys: [{env: A}]}}",
            "{fernet: {keys: [{env: B}]}}",
            [
                (
                    "! codecs[0].fernet.keys[0]: sidecars with the old file don't have the key {env: B}; give it to them first, "
                    "behind the others"
                ),
                "! codecs[0].fernet.keys: the key {env: A} is gone, and what is stored was made with it",
            ],
        ),
    ],
)
def test_codecs(tmp_path, old, new, lines) -> None:
    found = told(event(f"codecs: [{old}]"), event(f"codecs: [{new}]"), tmp_path)
    assert [line.replace(" events[0].", " ") for line in found] == lines


def actor(options: str, name: str = "act") -> str:
    return f"events: [{{name: e}}]\nactors: [{{name: {name}, event: e, url: 'http://h/', {options}}}]"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (actor("max_jobs: 1"), actor("max_jobs: 2, filter: 'true'"), []),
        (
            actor(""),
            actor("", name="other"),
            [
                (
                    "! actors: the actor 'act' of 'e' is gone; its consumer stays and holds messages back until somebody runs: "
                    "walnatsd actors delete e act"
                ),
                "+ actors[0]: the actor 'other' of 'e' is new",
            ],
        ),
        (
            actor(""),
            actor("start: new"),
            ["! actors[0].start: was retained, is new, and NATS can't change the start of a consumer"],
        ),
        (actor("start: new"), actor(""), []),
        (actor("responds: true"), actor(""), ["! actors[0].responds: requests are not answered any more"]),
        (actor(""), actor("responds: true"), ["+ actors[0].responds: requests are answered now"]),
    ],
)
def test_actors(tmp_path, old, new, lines) -> None:
    assert told(old, new, tmp_path) == lines


def test_schemas_are_compared_where_each_file_has_its_own(tmp_path) -> None:
    for name, required in (("old", []), ("new", ["id"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "parcel.json").write_text(json.dumps({"properties": {"id": {}}, "required": required}))
    text = event("schema: {json_schema: parcel.json}")
    assert told(text, text, tmp_path) == ["! events[0].schema: /id: is required now"]


# ---- the command


def run(folder: Path, old: str, new: str, *options: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    files = [written(folder / "new", new), "--against", written(folder / "old", old)]
    ended = CliRunner(env=ENVIRON if environ is None else environ).invoke(main, ["check", "-c", *files, *options])
    return ended.exit_code, ended.stdout, ended.stderr


def test_incompatible_changes_are_named_with_their_lines_and_exit_1(tmp_path) -> None:
    old = "events:\n  - {name: a}\n  - {name: b, limits: {age: 2d}}\n"
    new = "service: {name: s}\nevents:\n  - {name: c}\n  - name: b\n    limits:\n      age: 1d\n"
    code, output, _ = run(tmp_path, old, new)
    assert code == 1
    assert output.splitlines()[1:] == [
        "incompatible: events: the event 'a' is gone; who emits it is told UNKNOWN_EVENT (line 2)",
        "compatible: events[0]: the event 'c' is new (line 3)",
        "incompatible: events[1].limits.age: was 172800s, is 86400s; older messages are discarded (line 6)",
        f"3 differences from {tmp_path}/old/walnatsd.yaml, 2 incompatible",
    ]


def test_additions_exit_0(tmp_path) -> None:
    code, output, _ = run(tmp_path, "events: [{name: a}]", "events: [{name: a}, {name: b}]")
    assert code == 0
    assert output.splitlines()[1:] == [
        "compatible: events[1]: the event 'b' is new (line 1)",
        f"1 difference from {tmp_path}/old/walnatsd.yaml",
    ]
    code, output, _ = run(tmp_path, "events: [{name: a}]", "events: [{name: a}]")
    assert (code, output.splitlines()[1:]) == (0, [f"no differences from {tmp_path}/old/walnatsd.yaml"])


def test_secrets_and_certificates_of_the_old_file_need_not_be_there(tmp_path) -> None:
    old = event(f"codecs: [{HMAC}]") + "\nnats: {credentials_file: gone.creds, tls: {ca_file: gone.pem}}"
    assert run(tmp_path, old, event(f"codecs: [{HMAC}]"))[0] == 0
    code, _, errors = run(tmp_path, old, event(f"codecs: [{HMAC}]"), environ={})
    assert (code, "the environment variable A is not set" in errors) == (2, True)


def test_errors_of_both_files_are_told_at_once_and_exit_2(tmp_path) -> None:
    code, output, errors = run(tmp_path, event("schema: {json_schema: gone.json}"), "max_jobs: 0")
    assert (code, output) == (2, "")
    assert f"{tmp_path}/new/walnatsd.yaml can't be used:\n  max_jobs: should be greater than 0" in errors
    assert f"{tmp_path}/old/walnatsd.yaml can't be used:\n  events[0].schema: " in errors


def test_differences_as_json(tmp_path) -> None:
    code, output, _ = run(tmp_path, "events: [{name: a}]", "actors: []", "--json")
    assert code == 1
    assert json.loads(output)["differences"] == [
        {
            "path": "events",
            "line": None,
            "message": "the event 'a' is gone; who emits it is told UNKNOWN_EVENT",
            "breaks": True,
        }
    ]
