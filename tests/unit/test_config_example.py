"""The config file as the contract shows it: every option parses, the defaults are the ones shown, nothing is ignored."""

import re
from pathlib import Path

import pytest
import trustme
import yaml

from walnatsd.config import checks
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError, render
from walnatsd.config.settings import Config
from walnatsd.model.actor import Actor
from walnatsd.model.declared import Secret
from walnatsd.model.event import Event

EXAMPLE = Path(__file__).with_name("full_example.yaml").read_text()
"""Section 2 of the contract, word for word."""
ENVIRON = {
    "ACTOR_AUTH": "Bearer abc",
    "WEBHOOK_SECRET": "whsec_YWJjYWJjYWJjYWJjYWJjYWJjYWJjYWJj",
    "T": "t",
    "DSN": "https://key@sentry.example/7",
    "K": "k",
    "F": "c" * 43 + "=",
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/parcel-sent.json").write_text("{}")
    authority = trustme.CA()
    certificate = authority.issue_cert("walnatsd.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "k.pem")

    return str(tmp_path / "walnatsd.yaml")


def problems_of(text: str, file: str | None = None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, file=file, environ=ENVIRON)
    return {render(problem.location): problem.message for problem in caught.value.problems}


def is_supported(place: str) -> bool:
    return pattern_of(place) not in checks._WITHOUT_EFFECT


def pattern_of(place: str) -> tuple[str | None, ...]:
    return tuple(None if part == "0" else part for part in re.split(r"\W+", place) if part)


def test_the_full_example_is_refused_only_for_what_comes_later_and_for_its_contradictions(file) -> None:
    problems = problems_of(EXAMPLE, file)
    contradictions = {
        "actors[0]": "batch goes neither with order_by nor with responds",
        "clocks[0].event": "the event 'minute-passed' is not declared; add it to events",
    }
    later = {place: message for place, message in problems.items() if place not in contradictions}
    assert set(later.values()) <= set(checks._WITHOUT_EFFECT.values()), later
    assert not any(map(is_supported, later))
    assert problems == contradictions | later


def test_the_full_example_without_what_comes_later_has_the_values_it_shows(file) -> None:
    data = yaml.safe_load(EXAMPLE)
    data["events"].append({"name": "minute-passed"})
    del data["actors"][0]["order_by"]
    for place in [place for place in problems_of(EXAMPLE, file) if not is_supported(place)]:
        here, _, name = place.rpartition(".")
        (data[here.split("[")[0]][0] if here else data).pop(name, None)
    loaded = load_text(yaml.safe_dump(data), file=file, environ=ENVIRON)
    assert loaded.warnings == ()
    event, actor = loaded.config.events[0], loaded.config.actors[0]
    assert loaded.config.service.name == "warehouse"
    assert event.limits.model_dump() == {
        "age": 604800, "consumers": 10, "messages": 1000000, "bytes": 1 << 30, "message_size": 65536,
        "when_full": "drop_oldest",
    }  # fmt: skip
    assert actor.url == "http://127.0.0.1:8000/send-email"
    assert actor.headers["X-Team"] == "logistics"
    assert isinstance(actor.headers["Authorization"], Secret)
    assert loaded.secrets.reveal(actor.headers["Authorization"]) == "Bearer abc"


def test_the_defaults_are_those_of_the_contract() -> None:
    config = Config()
    assert config.nats.servers == ("nats://127.0.0.1:4222",)
    assert config.nats.embedded is None
    assert config.nats.reply_prefixes == ("_INBOX.",)
    assert (config.nats.manage.create, config.nats.manage.update) == (True, True)
    assert config.nats.system_replicas == 1
    assert [part.listen for part in (config.grpc, config.http, config.admin)] == [
        "127.0.0.1:7520", "127.0.0.1:7521", "127.0.0.1:7522",
    ]  # fmt: skip
    assert config.monitoring is None
    assert config.auth.model_dump() == {"tokens": (), "allow_insecure_listen": False}
    assert config.emit.model_dump() == {"timeout": 15, "max_in_flight": 10000}
    assert config.spool is None
    assert config.dead_letters.model_dump() == {"age": 30 * 86400, "bytes": 10 << 30, "pause_actor_after": 100}
    assert config.log.model_dump() == {"level": "info", "format": "auto"}
    assert config.max_jobs == 256
    assert config.shutdown_timeout == 40
    event = Event(name="e")
    assert event.limits.model_dump(exclude_none=True) == {"when_full": "drop_oldest"}
    assert (event.duplicate_window, event.replicas, event.storage, event.min_actors) == (120, 1, "file", 0)
    assert event.codecs == ()
    actor = Actor(name="a", event="e")
    assert (actor.start, actor.ack_wait, actor.max_ack_pending) == ("retained", 16, 1000)
    assert (actor.max_jobs, actor.job_timeout, actor.pulse) == (16, 32, True)
    assert (actor.priority, actor.responds) == ("normal", False)
    assert actor.retry is not None
    assert actor.retry.model_dump() == {"delays": (0.5, 1, 2, 4, 8, 16, 30, 60), "jitter": 0.2, "max_attempts": 20}
    assert actor.breaker.model_dump() == {
        "window": 60, "min_attempts": 10, "failure_ratio": 0.7, "consecutive": 5, "open_for": 30, "max_open_for": 300,
    }  # fmt: skip


ACTOR = "events: [{name: e}]\nactors: [{name: a, event: e, url: http://h/, %s}]"
OPTIONS = [
    ("spool", "spool: {path: ./spool.db, max_bytes: 1GiB, max_age: 1d}"),
    ("otel", "otel: {endpoint: 'http://127.0.0.1:4317', sample_ratio: 0.1}"),
    ("sentry", "sentry: {dsn: {env: DSN}}"),
    ("statsd", "statsd: {address: '127.0.0.1:8125'}"),
    ("clocks", "events: [{name: e}]\nclocks: [{event: e, cron: '0 12 * * MON-FRI', timezone: Europe/Berlin}]"),
    ("grpc.tls", "grpc: {tls: {cert_file: c.pem, key_file: k.pem, client_ca_file: ca.pem}}"),
    ("http.tls", "http: {tls: {cert_file: c.pem, key_file: k.pem}}"),
    ("admin.tls", "admin: {tls: {cert_file: c.pem, key_file: k.pem}}"),
    ("grpc.allowed_hosts", "grpc: {allowed_hosts: [a.example]}"),
    ("http.allowed_hosts", "http: {allowed_hosts: [a.example]}"),
    ("admin.allowed_hosts", "admin: {allowed_hosts: [a.example]}"),
    ("auth.tokens", "auth: {tokens: [{token: {env: T}, scopes: [emit, act, admin]}]}"),
    ("nats.reply_prefixes", "nats: {reply_prefixes: [_INBOX., replies.]}"),
    ("events[0].min_actors", "events: [{name: e, min_actors: 1}]"),
    ("events[0].codecs", "events: [{name: e, codecs: [{gzip: {level: 9}}]}]"),
    ("events[0].codecs", "events: [{name: e, codecs: [{hmac: {keys: [{env: K}], hash: sha512}}]}]"),
    ("events[0].codecs", "events: [{name: e, codecs: [{fernet: {keys: [{env: F}]}}]}]"),
    ("events[0].schema", "events: [{name: e, schema: {json_schema: schemas/parcel-sent.json}}]"),
    ("events[0].example", "events: [{name: e, example: {parcel_id: 7}}]"),
    ("actors[0].priority", ACTOR % "priority: high"),
    ("actors[0].responds", ACTOR % "responds: true"),
    ("actors[0].rate_limit", ACTOR % "rate_limit: {jobs: 32, period: 60s}"),
    ("actors[0].match_time", ACTOR % "match_time: {hour: [0], minute: [0, 30]}"),
    ("actors[0].filter", ACTOR % "filter: data.status == 'sent'"),
    ("actors[0].order_by", ACTOR % "order_by: /parcel_id"),
    ("actors[0].order_by", ACTOR % "order_by: {header: ce-partitionkey}"),
    ("actors[0].batch", ACTOR % "batch: {max_size: 100, max_bytes: 1MiB, max_wait: 50ms}"),
    ("actors[0].wait_for", ACTOR % "wait_for: http://h/healthz"),
    ("actors[0].signing_secrets", ACTOR % "signing_secrets: [{env: WEBHOOK_SECRET}]"),
    ("actors[0].tls", ACTOR % "tls: {ca_file: ca.pem, cert_file: c.pem, key_file: k.pem}"),
]


@pytest.mark.parametrize(("place", "text"), OPTIONS)
def test_an_option_works_or_is_refused_by_name_and_is_never_ignored(file, place, text) -> None:
    if is_supported(place):
        load_text(text, file=file, environ=ENVIRON)
    else:
        assert problems_of(text, file) == {place: checks._WITHOUT_EFFECT[pattern_of(place)]}


def test_every_option_that_is_refused_is_tried_here() -> None:
    assert set(checks._WITHOUT_EFFECT) <= {pattern_of(place) for place, _ in OPTIONS}


def test_what_asks_for_nothing_is_not_refused() -> None:
    load_text(
        """
        nats: {reply_prefixes: [_INBOX.], embedded: false, tls: null}
        auth: {tokens: []}
        spool: null
        clocks: []
        grpc: {allowed_hosts: []}
        events: [{name: e, min_actors: 0, codecs: [], schema: null}]
        actors: [{name: a, event: e, url: "http://h/", priority: normal, responds: false, signing_secrets: []}]
        """,
        file=None,
        environ={},
    )


def test_an_actor_without_a_url_takes_no_options_of_webhooks() -> None:
    loaded = load_text("events: [{name: e}]\nactors: [{name: a, event: e}]", file=None, environ=ENVIRON)
    assert loaded.config.actors[0].url is None
    problems = problems_of("events: [{name: e}]\nactors: [{name: a, event: e, headers: {X-A: b}, batch: {}}]")
    assert list(problems) == ["actors[0]"]
    assert problems["actors[0]"].startswith("headers, batch: for webhooks only")
