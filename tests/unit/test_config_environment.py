"""Settings and secrets from the environment, secrets from files, paths relative to the config file."""

from pathlib import Path

import pytest
import trustme

from walnatsd.config.load import Loaded, load, load_text
from walnatsd.config.problems import ConfigError

ACTOR = "events: [{name: e}]\nactors: [{name: a, event: e, url: 'http://127.0.0.1:1/', headers: {%s}}]"


def loaded(text: str = "", file: str | None = None, **environ: str) -> Loaded:
    return load_text(text, file=file, environ=environ)


def problems_of(text: str = "", file: str | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, file, **environ)
    return [str(problem) for problem in caught.value.problems]


# ---- the overlay


def test_the_environment_wins_over_the_file() -> None:
    config = loaded(
        "nats: {servers: ['nats://file:4222'], user: u, password: {env: P}}\nmax_jobs: 1",
        WALNATSD_NATS__SERVERS="nats://one:4222, nats://two:4222 ,", WALNATSD_MAX_JOBS="7", P="secret",
        WALNATSD_HTTP__LISTEN="127.0.0.1:0", WALNATSD_EMIT__TIMEOUT="250ms", WALNATSD_DEAD_LETTERS__BYTES="1GiB",
        WALNATSD_NATS__MANAGE__UPDATE="false", WALNATSD_LOG__LEVEL="debug",
    ).config  # fmt: skip
    assert config.nats.servers == ("nats://one:4222", "nats://two:4222")
    assert config.nats.user == "u"
    assert config.max_jobs == 7
    assert config.http.listen == "127.0.0.1:0"
    assert config.emit.timeout == 0.25
    assert config.dead_letters.bytes == 1 << 30
    assert (config.nats.manage.create, config.nats.manage.update) == (True, False)
    assert config.log.level == "debug"


def test_lists_are_separated_by_commas() -> None:
    config = loaded(WALNATSD_HTTP__ALLOWED_HOSTS="a.example,b.example").config
    assert config.http.allowed_hosts == ("a.example", "b.example")


def test_a_variable_that_names_no_setting_is_a_warning() -> None:
    names = (
        "WALNATSD_NATS__SERVER",
        "WALNATSD_EVENTS",
        "WALNATSD_ACTORS__0__NAME",
        "WALNATSD_",
        "WALNATSD_AUTH__TOKENS__TOKEN",
    )
    assert loaded(**dict.fromkeys(names, "x"), OTHER="x").warnings == tuple(
        f"the environment variable {name} names no setting and is ignored" for name in sorted(names)
    )


def test_a_bad_value_names_its_variable() -> None:
    assert problems_of(
        "nats: {manage: {create: true}}\n", WALNATSD_MAX_JOBS="many", WALNATSD_NATS__SERVERS="nats://ok,://bad",
        WALNATSD_HTTP__LISTEN="0.0.0.0:1",
    ) == [
        "max_jobs: should be a whole number; this is 'many' (WALNATSD_MAX_JOBS)",
        ("http.listen: 0.0.0.0:1 can be reached from other machines and nothing asks who calls; set auth.tokens, or "
        "http.tls with client_ca_file, or auth.allow_insecure_listen: true; or listen on loopback or a Unix socket "
        "(WALNATSD_HTTP__LISTEN)"),
        ("nats.servers[1]: write an address like nats://127.0.0.1:4222, or tls://, ws://, wss://; this is '://bad' "
        "(WALNATSD_NATS__SERVERS)"),
    ]  # fmt: skip


def test_a_section_as_a_whole_can_not_be_a_variable() -> None:
    assert problems_of(WALNATSD_NATS="x") == ["nats: should be a mapping of keys, not text (WALNATSD_NATS)"]


@pytest.mark.parametrize("word", ["true", "True", "1", "yes", "on"])
def test_the_embedded_server_can_be_switched_on_by_the_environment(word) -> None:
    assert loaded(WALNATSD_NATS__EMBEDDED=word).config.nats.embedded is not None
    embedded = loaded(WALNATSD_NATS__EMBEDDED=word, WALNATSD_NATS__EMBEDDED__PORT="4333").config.nats.embedded
    assert embedded is not None
    assert embedded.port == 4333
    assert loaded("nats: {embedded: true}", WALNATSD_NATS__EMBEDDED="off").config.nats.embedded is None


def test_insecure_addresses_can_be_allowed_by_the_environment() -> None:
    loaded("http: {listen: '0.0.0.0:1'}", WALNATSD_AUTH__ALLOW_INSECURE_LISTEN="yes")
    assert problems_of("http: {listen: '0.0.0.0:1'}", WALNATSD_AUTH__ALLOW_INSECURE_LISTEN="no")


# ---- secrets


def test_a_secret_comes_from_the_environment_or_from_a_file_relative_to_the_config(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("\n from file \n")
    text = ACTOR % "Authorization: {env: AUTH}, X-Key: {file: secret.txt}"
    result = loaded(text, str(tmp_path / "walnatsd.yaml"), AUTH="Bearer from env")
    headers = result.config.actors[0].headers
    assert result.secrets.reveal(headers["Authorization"]) == "Bearer from env"
    assert result.secrets.reveal(headers["X-Key"]) == "from file"


def test_a_secret_is_never_part_of_what_is_printed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hunter2")
    text = ACTOR % "Authorization: {env: AUTH}" + "\nnats: {token: {file: secret.txt}}"
    result = loaded(text, str(tmp_path / "walnatsd.yaml"), AUTH="hunter2")
    for printed in (
        repr(result),
        str(result),
        repr(result.config),
        result.config.model_dump_json(),
        repr(result.secrets),
    ):
        assert "hunter2" not in printed


def test_all_missing_secrets_and_files_are_told_beside_other_problems(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    text = (
        "nats: {token: {env: NO_TOKEN}, credentials_file: none.creds, tls: {ca_file: .}}\nmax_jobs: 0\n"
        + ACTOR % "A: {file: none}, B: {file: empty}, C: {env: EMPTY}"
    )
    assert problems_of(text, str(tmp_path / "walnatsd.yaml"), EMPTY="") == [
        f"nats.credentials_file: there is no readable file {tmp_path}/none.creds (line 1)",
        "nats.token: the environment variable NO_TOKEN is not set (line 1)",
        f"nats.tls.ca_file: there is no readable file {tmp_path} (line 1)",
        "max_jobs: should be greater than 0; this is 0 (line 2)",
        f"actors[0].headers.A: can't read {tmp_path}/none: No such file or directory (line 4)",
        f"actors[0].headers.B: the file {tmp_path}/empty is empty (line 4)",
        "actors[0].headers.C: the environment variable EMPTY is not set (line 4)",
    ]


SECRET_IN_THE_FILE = "a secret is {env: NAME} or {file: PATH} and never stands in the file itself"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nats: {token: hunter2}", f"nats.token: {SECRET_IN_THE_FILE} (line 1)"),
        ("nats: {user: u, password: hunter2}", f"nats.password: {SECRET_IN_THE_FILE} (line 1)"),
        ("nats: {pasword: hunter2}", "nats.pasword: unknown key; did you mean password? (line 1)"),
        ("nats: {token: {value: hunter2}}", "nats.token.value: unknown key; known here: env, file (line 1)"),
        ("nats: hunter2", "nats: should be a mapping of keys, not text (line 1)"),
        ("nats: {servers: ['nats://me:hunter2@host']}",
         ("nats.servers[0]: an address must not carry credentials; use user and password: {env: NAME}, or token: {env: NAME} "
         "(line 1)")),
        ("nats: {servers: 'nats://me:hunter2@host'}", "nats.servers: should be a list, not text (line 1)"),
        ("auth: {tokens: [hunter2]}", "auth.tokens[0]: should be a mapping of keys, not text (line 1)"),
        ("auth: {tokens: hunter2}", "auth.tokens: should be a list, not text (line 1)"),
        ("sentry: 'https://hunter2@sentry'", "sentry: should be a mapping of keys, not text (line 1)"),
        (ACTOR % "Authorization: Bearer hunter2",
         "actors[0].headers.Authorization: a secret never stands in the file itself; write {env: NAME} or {file: PATH} (line 2)"),
        ("events: [{name: e}]\nactors: [{name: a, event: e, url: 'http://u:hunter2@h/'}]",
         "actors[0].url: a URL must not carry a password; set headers: {Authorization: {env: NAME}}; this is '***@h/' (line 2)"),
        ("events: [{name: e}]\nactors: [{name: a, event: e, url: 'http://h/', signing_secrets: hunter2}]",
         "actors[0].signing_secrets: should be a list, not text (line 2)"),
        ("events: [{name: e, codecs: [{hmac: {keys: [hunter2]}}]}]",
         f"events[0].codecs[0].hmac.keys[0]: {SECRET_IN_THE_FILE} (line 1)"),
    ],
)  # fmt: skip
def test_a_secret_that_stands_in_the_file_is_refused_and_not_shown(text, problem) -> None:
    problems = problems_of(text)
    assert problem in problems
    assert "hunter2" not in "".join(problems)


def test_the_environment_may_hold_an_address_with_credentials_but_errors_do_not_show_them() -> None:
    assert loaded(WALNATSD_NATS__SERVERS="nats://me:hunter2@host").config.nats.servers == ("nats://me:hunter2@host",)
    [problem] = problems_of(WALNATSD_NATS__SERVERS="http://me:hunter2@host")
    assert "***@host" in problem
    assert "hunter2" not in problem


def test_a_secret_that_no_header_can_carry_is_told_without_showing_it() -> None:
    [problem] = problems_of(ACTOR % "Authorization: {env: AUTH}", AUTH="hunter2\r\nX: y")
    assert problem == (
        "actors[0].headers.Authorization: the value of header 'Authorization' holds a control character "
        "(CR, LF, NUL or the like) (line 2)"
    )


def test_a_secret_comes_from_one_place() -> None:
    give_one = "nats.token: give either {env: NAME} or {file: PATH} (line 1)"
    assert problems_of("nats: {token: {env: A, file: b}}") == [give_one]
    assert problems_of("nats: {token: {}}") == [give_one]


def test_one_identity_is_enough() -> None:
    text = "nats: {token: {env: A}, user: u, password: {env: A}}"
    assert problems_of(text, A="a") == ["nats: give one identity, not token and user (line 1)"]


# ---- paths


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    trustme.CA().cert_pem.write_to_path(folder / "ca.pem")

    (folder / "walnatsd.yaml").write_text(
        "nats: {tls: {ca_file: ca.pem}, embedded: {data_dir: data}}\nhttp: {listen: 'unix:run/http.sock'}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load("etc/walnatsd.yaml", {}).config
    assert config.nats.tls is not None
    assert config.nats.tls.ca_file == str(folder / "ca.pem")
    assert config.nats.embedded is not None
    assert config.nats.embedded.data_dir == str(folder / "data")
    assert config.http.listen == f"unix:{folder}/run/http.sock"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    config = loaded("http: {listen: 'unix:/run/http.sock'}", str(tmp_path / "walnatsd.yaml")).config
    assert config.http.listen == "unix:/run/http.sock"
