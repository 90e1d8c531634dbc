"""What is wrong with a config file: all of it at once, each with its place, its value and what to do about it."""

import pytest
import yaml

from walnatsd.config.load import load, load_text
from walnatsd.config.problems import ConfigError, render

ACTOR = "events: [{{name: e}}]\nactors: [{{name: a, event: e, url: 'http://127.0.0.1:1/', {}}}]"


def problems_of(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="/folder/walnatsd.yaml", environ=environ)
    return [str(problem) for problem in caught.value.problems]


def test_what_is_found_by_trying_it_out_is_told_beside_the_rest() -> None:
    """A filter that does not compile was told only when all else was mended."""
    text = """
events:
  - name: e
    replicas: 9
    schema: {json_schema: nowhere.json}
actors:
  - {name: a, event: e, url: ftp://host, filter: datum == 1}
  - {name: b, event: e, pulse: false, rate_limit: {jobs: 0}}
  - {name: c, event: e, filter: 1 + 1}
"""
    told = problems_of(text)
    assert [problem.partition(": ")[0] for problem in told] == [
        "events[0].replicas", "events[0].schema.json_schema", "actors[0].url", "actors[0].filter",
        "actors[1].rate_limit.jobs", "actors[1].rate_limit.period", "actors[1]", "actors[2].filter",
    ]  # fmt: skip
    assert "not a CEL expression" in told[3]
    assert "never true or false" in told[7]


def test_a_declaration_that_is_none_does_not_hide_the_broken_rules_of_others() -> None:
    text = "events: [{name: e}]\nactors: [7, {name: b, event: e, pulse: false}, {name: c, event: e, batch: {}}]"
    assert [problem.partition(": ")[0] for problem in problems_of(text)] == ["actors[0]", "actors[1]", "actors[2]"]


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """
events:
  - name: a.b
    replicas: 9
  - name: a-b
  - name: not a name
    limits: {agee: 1, bytes: 1XB}
actors:
  - name: act
    event: missing
    url: ftp://host
    pulse: false
    retry: {delays: [1, soon], max_atempts: 3}
nats:
  user: me
http: {listen: nowhere}
max_jobs: 0
nonsense: 1
"""
    assert problems_of(text) == [
        "events[0].replicas: should be less than or equal to 5; this is 9 (line 4)",
        "events[1].name: 'a-b' and 'a.b' map to one stream, 'a-b'; rename one of the events (line 5)",
        (
            "events[2].name: an event name is letters, digits, - and _, in parts joined by single dots, like parcel-sent; "
            "this is 'not a name' (line 6)"
        ),
        "events[2].limits.bytes: write a size as bytes or like 64KiB, 10MiB, 1GiB; this is '1XB' (line 7)",
        "events[2].limits.agee: unknown key; did you mean age? (line 7)",
        (
            "actors[0]: pulse: false needs job_timeout (32s) below ack_wait (16s), or NATS hands the message to another "
            "before the attempt ends (line 9)"
        ),
        "actors[0].event: the event 'missing' is not declared; add it to events (line 10)",
        "actors[0].url: write a URL like http://127.0.0.1:8000/send-email; this is 'ftp://host' (line 11)",
        "actors[0].retry.delays[1]: write a duration as seconds or like 250ms, 30s, 5m, 2h, 7d; this is 'soon' (line 13)",
        "actors[0].retry.max_atempts: unknown key; did you mean max_attempts? (line 13)",
        "nats: user and password go together (line 14)",
        "http.listen: write an address as 127.0.0.1:7520, [::1]:7520 or unix:/path/of.sock; this is 'nowhere' (line 16)",
        "max_jobs: should be greater than 0; this is 0 (line 17)",
        (
            "nonsense: unknown key; known here: service, nats, grpc, http, admin, monitoring, auth, emit, spool, "
            "dead_letters, log, otel, sentry, statsd, max_jobs, shutdown_timeout, events, actors, clocks (line 18)"
        ),
    ]


def test_the_error_names_the_file_and_stands_on_one_line_per_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("max_jobs: 0\nlog: {level: loud}", file="/folder/walnatsd.yaml", environ={})
    assert str(caught.value).splitlines() == [
        "/folder/walnatsd.yaml can't be used:",
        "  max_jobs: should be greater than 0; this is 0 (line 1)",
        "  log.level: should be 'debug', 'info', 'warning' or 'error'; this is 'loud' (line 2)",
    ]


@pytest.mark.parametrize(("key", "shown"), [("a\nb", r"'a\nb'"), ("", "''"), (" ", "' '"), ("\x1b[2J", r"'\x1b[2J'")])
def test_a_key_that_breaks_the_line_or_can_not_be_seen_is_told_as_it_was_written(key, shown) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(yaml.safe_dump({"nats": {key: 1}}), file=None, environ={})
    [problem] = map(str, caught.value.problems)
    assert problem.startswith(f"nats.{shown}: unknown key")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("grpcc: {}", "grpcc: unknown key; did you mean grpc? (line 1)"),
        ("nats:\n  server: [x]", "nats.server: unknown key; did you mean servers? (line 2)"),
        ("nats: {manage: {delete: true}}", "nats.manage.delete: unknown key; known here: create, update (line 1)"),
        ("events: [{name: e, desc: x}]", "events[0].desc: unknown key; did you mean description? (line 1)"),
        (ACTOR.format("breaker: {open: 1}"), "actors[0].breaker.open: unknown key; did you mean open_for? (line 2)"),
        (ACTOR.format("headers: {X: {enw: A}}"), "actors[0].headers.X.enw: unknown key; did you mean env? (line 2)"),
        ("1: 2", "1: unknown key; known here: service"),
        ("on: 2", "on: unknown key; known here: service"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_an_error_with_a_suggestion(text, problem) -> None:
    assert any(found.startswith(problem) for found in problems_of(text)), problems_of(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max_jobs: 1\nlog: {}\nmax_jobs: 2", "max_jobs: the key stands twice, first in line 1; remove one (line 3)"),
        ("log:\n  level: info\n  level: info", "log.level: the key stands twice, first in line 2; remove one (line 3)"),
        ("events:\n- name: a\n  name: b", "events[0].name: the key stands twice, first in line 2; remove one (line 3)"),
        ("log: {level: info}\nlog: {level: info}", "log: the key stands twice, first in line 1; remove one (line 2)"),
    ],
)
def test_a_duplicate_key_is_an_error_even_with_the_same_value(text, problem) -> None:
    assert problems_of(text) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nats: [1]", "nats: should be a mapping of keys, not a list (line 1)"),
        ("nats:", "nats: should be a mapping of keys, and nothing stands there; remove the key if you don't need it (line 1)"),
        ("events: {name: e}", "events: should be a list, not a mapping (line 1)"),
        ("events: [e]", "events[0]: should be a mapping of keys, not text (line 1)"),
        ("events: [{}]", "events[0].name: is required (line 1)"),
        ("service: {name: 5}", "service.name: should be text; put it in quotes (line 1)"),
        ("service: {name: ''}", "service.name: should not be empty; this is '' (line 1)"),
        ("max_jobs: many", "max_jobs: should be a whole number; this is 'many' (line 1)"),
        ("max_jobs: 1.5", "max_jobs: should be a whole number; this is 1.5 (line 1)"),
        ("max_jobs: 99999999999999999999", "max_jobs: should be less than 9223372036854775808; this is a huge number (line 1)"),
        ("nats: {manage: {create: maybe}}", "nats.manage.create: should be true or false; this is 'maybe' (line 1)"),
        ("nats: {servers: nats://h}", "nats.servers: should be a list, not text (line 1)"),
        ("nats: {servers: []}", "nats.servers: should have at least one item (line 1)"),
        ("nats: {servers: [a/b]}",
         "nats.servers[0]: write an address like nats://127.0.0.1:4222, or tls://, ws://, wss://; this is 'a/b' (line 1)"),
        ("nats: {servers: [a, 'ws://b']}",
         "nats: servers are reached over WebSockets (ws://, wss://) or without, not both at once (line 1)"),
        ("nats: {embedded: 5}", "nats.embedded: write true, false or {data_dir: PATH, port: NUMBER}; this is 5 (line 1)"),
        ("events: [{name: e, duplicate_window: 8d, limits: {age: 7d}}]",
         "events[0]: duplicate_window (691200s) must not be above limits.age (604800s) (line 1)"),
        (ACTOR.format("retry: {delays: []}"), "actors[0].retry.delays: should have at least one item (line 2)"),
        (ACTOR.format("retry: {jitter: 2}"), "actors[0].retry.jitter: should be less than or equal to 1; this is 2 (line 2)"),
        (ACTOR.format("start: old"), "actors[0].start: should be 'retained' or 'new'; this is 'old' (line 2)"),
        (ACTOR.format("breaker: {open_for: 10m}"),
         "actors[0].breaker: max_open_for (300s) must not be below open_for (600s) (line 2)"),
        (ACTOR.format("headers: {Host: x}"), "actors[0].headers.Host: 'Host' is set by walnatsd itself (line 2)"),
        (ACTOR.format("headers: {webhook-id: x}"), "actors[0].headers.webhook-id: 'webhook-id' is set by walnatsd itself (line 2)"),
        (ACTOR.format("headers: {'X Y': x}"), "actors[0].headers.X Y: 'X Y' is not a header name (line 2)"),
        (ACTOR.format('headers: {X: "a\\nb"}'),
         "actors[0].headers.X: holds a control character (CR, LF, NUL or the like); this is 'a\\nb' (line 2)"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_place_and_what_would_be_right(text, problem) -> None:
    assert problems_of(text) == [problem]


@pytest.mark.parametrize("name", ["walnatsd", "walnatsd-dead-letters", "walnatsd.due"])
def test_reserved_names_are_refused(name) -> None:
    problem = f"events[0].name: names that begin with walnatsd are reserved; this is '{name}' (line 1)"
    assert problems_of(f"events: [{{name: {name}}}]") == [problem]


def test_declarations_that_stand_twice_are_refused() -> None:
    text = """
events: [{name: e}, {name: e}]
actors:
  - {name: a, event: e, url: "http://h/"}
  - {name: a, event: e, url: "http://h/"}
"""
    assert problems_of(text) == [
        "events[1].name: the event 'e' is declared twice; remove one (line 2)",
        "actors[1].name: the actor 'a' of 'e' is declared twice; remove one (line 5)",
    ]


def test_actors_of_different_events_may_share_a_name() -> None:
    text = "events: [{name: e}, {name: f}]\nactors: [{name: a, event: e, url: 'http://h'}, {name: a, event: f, url: 'http://h'}]"
    assert len(load_text(text, file=None, environ={}).config.actors) == 2


@pytest.mark.parametrize("section", ["grpc", "http", "admin"])
@pytest.mark.parametrize("listen", ["0.0.0.0:1", "192.0.2.1:1", "[::]:1", "host.example:1", "[::ffff:127.0.0.1]:1"])
def test_an_address_that_others_can_reach_is_refused_while_nothing_asks_who_calls(section, listen) -> None:
    [problem] = problems_of(f"{section}: {{listen: '{listen}'}}")
    assert problem.startswith(f"{section}.listen: {listen} can be reached from other machines")
    for way_out in ("set auth.tokens", f"{section}.tls with client_ca_file", "auth.allow_insecure_listen: true"):
        assert way_out in problem
    load_text(f"{section}: {{listen: '{listen}'}}\nauth: {{allow_insecure_listen: true}}", file=None, environ={})
    token = "auth: {tokens: [{token: {env: T}, scopes: [emit]}]}"
    load_text(f"{section}: {{listen: '{listen}'}}\n{token}", file=None, environ={"T": "t"})


def test_a_token_section_without_tokens_and_tls_without_an_authority_ask_nobody() -> None:
    for more in ("auth: {tokens: []}", "auth: {tokens: null}", "auth: {}"):
        assert any("nothing asks who calls" in each for each in problems_of(f"http: {{listen: '0.0.0.0:1'}}\n{more}"))
    for tls in (
        "null",
        "{cert_file: c.pem, key_file: k.pem}",
        "{cert_file: c.pem, key_file: k.pem, client_ca_file: null}",
    ):
        problems = problems_of(f"admin: {{listen: '0.0.0.0:1', tls: {tls}}}")
        assert any("nothing asks who calls" in each for each in problems)


def test_a_client_certificate_says_who_calls_its_own_address_only() -> None:
    tls = "tls: {cert_file: c.pem, key_file: k.pem, client_ca_file: ca.pem}"
    problems = problems_of(f"admin: {{listen: '0.0.0.0:1', {tls}}}\nhttp: {{listen: '0.0.0.0:2'}}")
    assert [each.partition(":")[0] for each in problems if "nothing asks who calls" in each] == ["http.listen"]


def test_a_token_that_can_not_be_sent_or_stands_twice_is_refused_and_not_shown() -> None:
    two = "auth: {tokens: [{token: {env: A}, scopes: [emit]}, {token: {env: B}, scopes: [act]}]}"
    for environ, told in (
        ({"A": "good", "B": "with a space"}, "auth.tokens[1].token: holds more than visible ASCII characters"),
        ({"A": "sch\u00f6n", "B": "good"}, "auth.tokens[0].token: holds more than visible ASCII characters"),
        ({"A": "sesame", "B": "sesame"}, "auth.tokens[1].token: is the same as that of auth.tokens[0]"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_text(two, file=None, environ=environ)
        [problem] = caught.value.problems
        assert str(problem).startswith(told)
        assert not any(value in str(caught.value) for value in environ.values())


def test_a_token_opens_something_and_nothing_unknown() -> None:
    for scopes, told in (("[]", "should have at least one item"), ("[root]", "'emit', 'act' or 'admin'")):
        with pytest.raises(ConfigError) as caught:
            load_text(f"auth: {{tokens: [{{token: {{env: A}}, scopes: {scopes}}}]}}", file=None, environ={"A": "t"})
        assert told in str(caught.value)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/run/a.sock"])
def test_addresses_of_this_machine_are_fine(listen) -> None:
    load_text(f"grpc: {{listen: '{listen}'}}", file=None, environ={})


def test_the_monitoring_address_may_be_reached_from_outside() -> None:
    load_text("monitoring: {listen: '0.0.0.0:7523'}", file=None, environ={})


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("events: [", "did not find expected node content"),
        ("a: b: c", "mapping values are not allowed in this context"),
        ("\tmax_jobs: 1", "found character that cannot start any token"),
        ("log: &a {level: *a}", "an alias must not stand for what holds it"),
        ("? [a]\n: 1", "a key is text"),
        ("log: !!python/object:os.system {}", "!!python/object:os.system has no meaning here"),
        ("log: !!set {a}", "!!set has no meaning here"),
        ("max_jobs: !!int ''", "a value is not what its tag says"),
        ("[" * 100 + "]" * 100, "nested more than 50 levels deep"),
        ("max_jobs: 1\n---\nmax_jobs: 2", "but found another document"),
        ("max_jobs: \x00", "control characters are not allowed"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(document, why) -> None:
    [problem] = problems_of(document)
    assert problem.startswith("not valid YAML: ")
    assert why in problem


def test_aliases_of_aliases_do_not_eat_the_memory() -> None:
    layers = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    [problem] = problems_of(f"l0: &l0 [a]\n{layers}")
    assert "more than 200000 values" in problem


@pytest.mark.parametrize("document", ["", "# nothing\n", "{}"])
def test_an_empty_file_is_all_defaults(document) -> None:
    assert load_text(document, file=None, environ={}).config.max_jobs == 256


@pytest.mark.parametrize("document", ["5", "- a", "just text", "null"])
def test_a_file_that_is_no_mapping_says_what_it_should_be(document) -> None:
    if document == "null":
        load_text(document, file=None, environ={})
    else:
        assert problems_of(document) == ["the file is a mapping of keys like nats:, events:, actors:"]


def test_a_file_that_can_not_be_read_says_why(tmp_path) -> None:
    with pytest.raises(ConfigError, match="can't read it: No such file or directory"):
        load(str(tmp_path / "none.yaml"), {})
    with pytest.raises(ConfigError, match="can't read it: Is a directory"):
        load(str(tmp_path), {})
    (tmp_path / "latin.yaml").write_bytes(b"service: {name: \xfc}")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load(str(tmp_path / "latin.yaml"), {})


def test_places_are_written_as_in_the_contract() -> None:
    assert render(("actors", 2, "retry", "delays", 0)) == "actors[2].retry.delays[0]"


def test_the_file_in_the_working_directory_is_used_where_none_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).config.max_jobs == 256
    (tmp_path / "walnatsd.yaml").write_text("max_jobs: 7")
    assert load(None, {}).config.max_jobs == 7


@pytest.mark.parametrize(
    "text", ["max_jobs: true", "events: [{name: e, replicas: true}]", "emit: {max_in_flight: true}"]
)
def test_a_boolean_is_no_number(text: str) -> None:
    with pytest.raises(ConfigError, match="write a whole number; this is true"):
        load_text(text, file=None, environ={})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("grpc: {listen: '127.0.0.1:7521'}",
         "http.listen: 127.0.0.1:7521 is taken by grpc.listen; give one of them another address"),
        ("admin: {listen: 'localhost:7520'}",
         "admin.listen: localhost:7520 is taken by grpc.listen; give one of them another address (line 1)"),
        ("monitoring: {listen: '0.0.0.0:7522'}",
         "monitoring.listen: 0.0.0.0:7522 is taken by admin.listen; give one of them another address (line 1)"),
        ("http: {listen: 'unix:a.sock'}\nadmin: {listen: 'unix:./a.sock'}",
         "admin.listen: unix:/folder/a.sock is taken by http.listen; give one of them another address (line 2)"),
        ("nats: {embedded: {port: 7520}}",
         "grpc.listen: 127.0.0.1:7520 is taken by nats.embedded.port; give one of them another address"),
    ],
)  # fmt: skip
def test_two_parts_that_would_listen_in_one_place_are_a_problem(text, problem) -> None:
    assert problems_of(text) == [problem]


def test_free_ports_and_other_interfaces_do_not_clash() -> None:
    load_text("http: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}", file=None, environ={})
    load_text("grpc: {listen: '127.0.0.1:7000'}\nhttp: {listen: '[::1]:7000'}", file=None, environ={})
