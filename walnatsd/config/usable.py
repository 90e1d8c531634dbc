"""Trying out what a config refers to, so that what can't be used is found before anything starts."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from urllib.parse import urlsplit

from walnatsd.config import checks
from walnatsd.config.problems import Location, Problem
from walnatsd.config.settings import Config, NatsTls
from walnatsd.config.tls import TlsFiles, client_files, load_tls, server_files, why_not_valid
from walnatsd.model.actor import Actor, ActorTls
from walnatsd.model.clock import Clock
from walnatsd.model.declared import Secret
from walnatsd.model.event import Event, Schema
from walnatsd.model.headers import DEFAULT_CONTENT_TYPE, check_header_value
from walnatsd.model.rhythm import open_zone
from walnatsd.model.signing import signing_key
from walnatsd.payload.codecs import open_codecs
from walnatsd.payload.schemas import SchemaError, open_schema
from walnatsd.payload.times import CONTENT_TYPE, tick_text

_SENDABLE = re.compile(r"[!-~]+")

Trial = tuple[Location, Callable[[], object]]


def what_is_unusable(config: Config, values: Mapping[Secret, str]) -> Iterator[Problem]:
    """Find certificates, keys and headers that can't be used.

    Args:
        config: The settings.
        values: The secrets that could be read; one that could not is a problem of its own.
    """
    yield from _failed(_trials(config, values))


def what_is_doubtful(config: Config, now: float) -> Iterator[Problem]:
    """Find client certificates that are not valid now: what they are for refuses them, and all else works."""
    places: list[tuple[Location, NatsTls | ActorTls | None]] = [(("nats", "tls"), config.nats.tls)]
    places += [(("actors", index, "tls"), actor.tls) for index, actor in enumerate(config.actors)]
    for location, tls in places:
        if tls is not None:
            files = client_files(tls)
            if why := why_not_valid(load_tls(files), files, now):
                yield Problem(location, why)


def what_is_unusable_in_declarations(config: Config, values: Mapping[Secret, str]) -> Iterator[Problem]:
    """Find schemas, examples, codecs and expressions that can't be used."""
    yield from _failed(_declaration_trials(config, values))
    for index, actor in enumerate(config.actors):
        yield from checks.expressions_compile(actor, ("actors", index))


def _failed(trials: Iterator[Trial]) -> Iterator[Problem]:
    for location, trial in trials:
        try:
            trial()
        except KeyError:
            continue
        except ValueError as error:
            yield Problem(location, str(error))


def _declaration_trials(config: Config, values: Mapping[Secret, str]) -> Iterator[Trial]:
    for index, event in enumerate(config.events):
        if event.payload_schema is not None:
            yield ("events", index, "schema"), partial(open_schema, event.payload_schema)
        if event.example is not None:
            yield ("events", index, "example"), partial(_try_example, event)
        for number, codec in enumerate(event.codecs):
            yield ("events", index, "codecs", number), partial(open_codecs, [codec], values.__getitem__)
    schemas = {event.name: event.payload_schema for event in config.events}
    for index, clock in enumerate(config.clocks):
        if (schema := schemas.get(clock.event)) is not None:
            yield ("clocks", index, "event"), partial(_try_tick, schema, clock)


def _trials(config: Config, values: Mapping[Secret, str]) -> Iterator[Trial]:
    if config.nats.tls is not None:
        yield ("nats", "tls"), partial(load_tls, client_files(config.nats.tls))
    for section in ("grpc", "http", "admin"):
        if (tls := getattr(config, section).tls) is not None:
            yield (section, "tls"), partial(_try_server_tls, server_files(tls))
    for name in ("credentials_file", "nkey_seed_file"):
        if getattr(config.nats, name) is not None:
            yield ("nats", name), _try_nkeys
    if config.sentry is not None:
        yield ("sentry",), partial(_try_extra, "sentry", "sentry_sdk")
        yield ("sentry", "dsn"), partial(_try_dsn, values, config.sentry.dsn)
    if config.otel is not None:
        yield (
            ("otel",),
            partial(_try_extra, "otel", "opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"),
        )
    earlier: dict[str, int] = {}
    for index, each in enumerate(config.auth.tokens):
        yield ("auth", "tokens", index, "token"), partial(_try_token, values, each.token, index, earlier)
    for index, actor in enumerate(config.actors):
        yield from _actor_trials(actor, ("actors", index), values)


def _actor_trials(actor: Actor, location: Location, values: Mapping[Secret, str]) -> Iterator[Trial]:
    if actor.tls is not None:
        yield (*location, "tls"), partial(load_tls, client_files(actor.tls))
    for number, secret in enumerate(actor.signing_secrets):
        yield (*location, "signing_secrets", number), partial(_try_key, values, secret)
    for name, value in actor.headers.items():
        yield (*location, "headers", name), partial(_try_header, values, name, value)


def _try_example(event: Event) -> None:
    try:
        payload = json.dumps(event.example, allow_nan=False).encode()
    except ValueError:
        raise ValueError("is no JSON, which has neither .nan nor .inf") from None
    if event.payload_schema is None or event.payload_schema.json_schema is None:
        return
    try:
        schema = open_schema(event.payload_schema)
    except ValueError:
        return  # that is a problem of its own
    try:
        schema.check(payload, DEFAULT_CONTENT_TYPE)
    except SchemaError as error:
        raise ValueError(f"does not fit the schema: {error}") from None


def _try_tick(declared: Schema, clock: Clock) -> None:
    try:
        schema = open_schema(declared)
    except ValueError:
        return  # that is a problem of its own
    tick = tick_text(0, open_zone(clock.timezone))
    try:
        schema.check(tick, CONTENT_TYPE)
    except SchemaError as error:
        raise ValueError(
            f"the payload of a tick is text like {tick.decode()}, which does not fit the schema of {clock.event!r}: {error}"
        ) from None


def _try_server_tls(files: TlsFiles) -> None:
    if why := why_not_valid(load_tls(files), files, time.time()):
        raise ValueError(why)


def _try_nkeys() -> None:
    try:
        import nkeys  # noqa: F401, PLC0415 - an optional library
    except ImportError:
        raise ValueError("needs the extra nkeys; install it with: pip install 'walnatsd[nkeys]'") from None


def _try_extra(extra: str, *modules: str) -> None:
    try:
        found = all(find_spec(module) is not None for module in modules)
    except ModuleNotFoundError:  # not even what holds it
        found = False
    if not found:
        raise ValueError(f"needs the extra {extra}; install it with: pip install 'walnatsd[{extra}]'")


def _try_token(values: Mapping[Secret, str], secret: Secret, index: int, earlier: dict[str, int]) -> None:
    """See that a token can be sent, and is not one of the earlier ones."""
    token = values[secret]
    if not _SENDABLE.fullmatch(token):
        raise ValueError("holds more than visible ASCII characters, so no caller can send it")
    if (other := earlier.setdefault(token, index)) != index:
        raise ValueError(f"is the same as that of auth.tokens[{other}]; give one of them all the scopes")


def _try_dsn(values: Mapping[Secret, str], secret: Secret) -> None:
    try:
        parts = urlsplit(values[secret])
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and bool(parts.username) and parts.port != 0
    except ValueError:
        fits = False
    else:
        fits = fits and parts.path.rpartition("/")[2].isdecimal()
    if not fits:  # it is a secret, so nothing of it is shown
        raise ValueError("the secret is no DSN: that is an address like https://KEY@o1.ingest.sentry.io/7")


def _try_key(values: Mapping[Secret, str], secret: Secret) -> None:
    signing_key(values[secret])


def _try_header(values: Mapping[Secret, str], name: str, value: str | Secret) -> None:
    check_header_value(name, values[value] if isinstance(value, Secret) else value)
