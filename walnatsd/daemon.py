"""The composition root: what the daemon is made of, in which order it starts and stops."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from walnatsd import __version__
from walnatsd.api.access import Access
from walnatsd.api.actors import Actors
from walnatsd.api.administration import Administration
from walnatsd.api.backstop import Backstop
from walnatsd.api.dead_letters import DeadLetterOffice
from walnatsd.api.events import Events
from walnatsd.api.observers import reports_of, tracing_of
from walnatsd.api.outfitter import Outfitter
from walnatsd.api.overview import Overview
from walnatsd.api.reload import Reload
from walnatsd.api.roster import Roster
from walnatsd.api.scheduled import ScheduledEmits
from walnatsd.api.spool_office import SpoolOffice
from walnatsd.api.watch import Watch
from walnatsd.broker import dead_letters
from walnatsd.broker.clock_schedules import ClockSchedules
from walnatsd.broker.connection import Connection, connect
from walnatsd.broker.dead_letter_stream import DeadLetterStream
from walnatsd.broker.dead_letters import DeadLetters
from walnatsd.broker.embedded import embedded_server
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.interest import Interest
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.publisher import Publisher
from walnatsd.broker.route import Route
from walnatsd.broker.schedules import Schedules
from walnatsd.clocks.keeper import Keeper
from walnatsd.clocks.registration import owner_in
from walnatsd.clocks.ticks import Ticks
from walnatsd.config.certificates import Certificates
from walnatsd.config.load import Loaded
from walnatsd.config.settings import Admin, Config, Http, ServerTls
from walnatsd.config.tls import server_files
from walnatsd.dashboard.dashboard import add_dashboard
from walnatsd.dispatch.pulse import Pulse
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.dispatch.slots import Slots
from walnatsd.emit.calls import Calls
from walnatsd.emit.due import Due
from walnatsd.emit.emitter import Emitter
from walnatsd.emit.forwarder import Forwarder
from walnatsd.emit.outbox import Outbox
from walnatsd.emit.store import Store
from walnatsd.emit.waiting import Waiting
from walnatsd.model.countdown import Countdown
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.monitor.feeds import Feeds
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.recent import Recent
from walnatsd.observe.service_manager import service_manager
from walnatsd.servers.admin import admin_app, monitoring_app
from walnatsd.servers.door import Guard
from walnatsd.servers.grpc import serve_grpc
from walnatsd.servers.http import http_app
from walnatsd.servers.office import Office
from walnatsd.servers.sockets import ListenError
from walnatsd.servers.web import serve_web
from walnatsd.spool.spool import Spool, open_spool
from walnatsd.webhook.http_client import http_client

DELIVERIES_SHARE = 0.8
"""Share of `shutdown_timeout` for deliveries to finish. What follows (handing back, ingress, PubAcks, NATS, the embedded
server) takes a share of what is left, each in turn."""

_log = structlog.get_logger("walnatsd")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the daemon listens."""

    grpc: str
    http: str
    admin: str
    monitoring: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon."""

    addresses: Addresses
    health: Health
    connection: Connection
    roster: Roster
    reload: Reload
    due: Due
    forwarder: Forwarder | None
    """None where there is no spool."""


@contextlib.asynccontextmanager
async def running(  # noqa: PLR0915 - one text, so that the order is seen
    loaded: Loaded, *, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Daemon]:
    """Run the daemon while the body runs, then stop it without loss.

    It listens at once, and is ready when NATS is there and everything declared is registered.

    Args:
        loaded: The config.
        environ: Where a service manager says how it is told that the daemon is ready; None: there is none.

    Raises:
        ListenError: An address can't be listened on.
        EmbeddedServerError: The embedded server can't be run.
        SpoolFileError: The file of the spool can't be used.
        ObserveError: An option of tracing in the environment makes no sense.
    """
    config = loaded.config
    health, metrics, office = Health(), Metrics(), Office()
    health.set_problem("startup", "the declared events and actors are not registered yet")
    metrics.ready.set_function(lambda: health.is_ready)
    metrics.tasks.set_function(lambda: len(asyncio.all_tasks()))
    left = Countdown(config.shutdown_timeout, time.monotonic)
    access = Access(loaded, metrics) if config.auth.tokens else None
    tls = {part: _certificates(part, getattr(config, part).tls, metrics) for part in ("grpc", "http", "admin")}
    administration = admin_app(health, metrics, office, _guard(config.admin), access)
    add_dashboard(administration, office, access)
    async with (
        service_manager(health, environ or {}),
        serve_web(
            "admin", config.admin.listen, administration, metrics, tls=tls["admin"], stop_within_s=left.share_s
        ) as admin_at,
        _monitoring(config, health, metrics, left) as monitoring_at,
        tracing_of(config, metrics, stop_within_s=left.share_s) as tracing,
        reports_of(loaded, metrics, stop_within_s=left.share_s) as reports,
        _spool(config, metrics) as spool,
        embedded_server(config.nats.embedded, stop_within_s=left.share_s),
        connect(
            config.nats.reached,
            loaded.secrets,
            name=f"walnatsd/{config.service.name}",
            health=health,
            metrics=metrics,
            end_within_s=left.share_s,
        ) as connection,
        http_client() as webhooks,
        asyncio.TaskGroup() as tasks,
    ):
        jetstream = JetStream(connection, config.nats.domain)
        missed = asyncio.Event()
        publisher = Publisher(connection, on_no_stream=missed.set)
        replicas = config.nats.system_replicas
        route = Route(connection, jetstream, publisher, replicas=replicas)
        register_letters = functools.partial(
            dead_letters.register_stream, jetstream, config.dead_letters, replicas=replicas
        )
        own: dict[str, Callable[[], Awaitable[None]]] = {dead_letters.STREAM: register_letters, WORK: route.register}
        pulse = Pulse(time.monotonic)
        slots = Slots(config.max_jobs, time.monotonic)
        metrics.slots_free.set_function(lambda: slots.free)
        metrics.slots_waiting.set_function(lambda: slots.waiting)
        sidecar = Sidecar(
            connection=connection,
            jetstream=jetstream,
            route=route,
            dead_letters=DeadLetters(connection, publisher),
            dead_letter_stream=DeadLetterStream(jetstream),
            slots=slots,
            pulse=pulse,
            metrics=metrics,
            pause_after=config.dead_letters.pause_actor_after,
            reply_prefixes=config.nats.reply_prefixes,
            tracing=tracing,
            reports=reports,
        )
        outfitter = Outfitter(webhooks, loaded, metrics)
        roster = Roster(jetstream, config.nats.manage, sidecar, outfitter.equip, health=health, metrics=metrics)
        roster.declare(config.events, config.actors)
        schedules, find_gate = Schedules(jetstream, publisher), roster.registrar.find_gate
        interest = Interest(connection, jetstream)
        store = Store(jetstream, publisher, schedules, route, interest, roster.find_event, find_gate)
        ticks = Ticks(roster.find_event, outfitter.codecs_for)
        due = Due(connection, jetstream, store, route, roster.find_event, metrics, tracing=tracing, read=ticks.read_due)
        waiting = Waiting(connection, jetstream, schedules, route, lambda: [*roster.events.values()], metrics)
        clocks = Keeper(
            connection,
            route,
            ClockSchedules(connection, jetstream),
            config.nats.manage,
            owner=owner_in(config.service),
            health=health,
            metrics=metrics,
        )
        clocks.declare(config.clocks, config.events)
        outbox: Store | Outbox = store
        forwarder = None
        if spool is not None:
            brisk_publisher = Publisher(connection, on_no_stream=missed.set, waits_for_nats=False)
            brisk_schedules = Schedules(jetstream, brisk_publisher)
            brisk = Store(jetstream, brisk_publisher, brisk_schedules, route, interest, roster.find_event, find_gate)
            outbox = Outbox(spool, store, brisk, connection, roster.find_event)
            forwarder = Forwarder(
                spool, brisk, connection, jetstream, roster.find_event, find_gate, metrics, tracing=tracing
            )
        emitter = Emitter(
            outbox,
            roster.find_event,
            outfitter.codecs_for,
            outfitter.schema_for,
            config.emit,
            metrics,
            tracing=tracing,
        )
        calls = Calls(
            emitter,
            connection,
            interest,
            roster.find_event,
            find_gate,
            roster.acts_on,
            config.emit.max_in_flight,
            metrics,
            tracing,
        )
        feeds = Feeds(connection, roster.find_event, outfitter.codecs_for, metrics)
        events, actors = Events(emitter, calls, feeds, ScheduledEmits(schedules, route, roster), roster), Actors(roster)
        watch = Watch(connection, jetstream, roster, metrics, {dead_letters.STREAM: register_letters}, missed)
        backstop = Backstop(connection, jetstream, route, roster, config.nats.manage, metrics, replicas=replicas)
        reload = Reload(roster, clocks, loaded, [outfitter.use, *([access.use] if access is not None else [])])
        letters, recent = DeadLetterOffice(sidecar.dead_letter_stream, route, metrics), Recent(metrics, time.monotonic)
        office.open(
            Administration(jetstream, route, schedules, roster, watch, clocks),
            reload,
            letters,
            SpoolOffice(spool),
            Overview(config.service.name, health, roster, watch, clocks, metrics, recent, letters),
            events,
        )
        registered = asyncio.Event()
        to_the_end = [
            tasks.create_task(pulse.run(), name="pulse"),
            tasks.create_task(recent.run(), name="recent"),
            tasks.create_task(due.work(), name="due"),
        ]
        if reports is not None and reports.statsd is not None:
            to_the_end.append(tasks.create_task(reports.statsd.run(), name="statsd"))
        if forwarder is not None:
            to_the_end.append(tasks.create_task(forwarder.run(), name="spool"))
        background = [
            tasks.create_task(_bring_up(config, connection, own, roster, health, registered), name="bring-up"),
            tasks.create_task(_once_set(registered, watch.run), name="watch"),
            tasks.create_task(_once_set(registered, backstop.run), name="backstop"),
            tasks.create_task(route.watch(), name="route"),
            tasks.create_task(due.pull(), name="due/pull"),
            tasks.create_task(clocks.run(), name="clocks"),
            tasks.create_task(due.watch(), name="due/watch"),
            tasks.create_task(waiting.watch(), name="waiting"),
        ]
        async with (
            roster.open(),
            serve_grpc(
                config.grpc.listen,
                events,
                actors,
                health,
                access=access,
                tls=tls["grpc"],
                stop_within_s=left.share_s,
            ) as grpc_at,
            serve_web(
                "http",
                config.http.listen,
                http_app(events, _guard(config.http), access, source=config.service.name),
                metrics,
                tls=tls["http"],
                stop_within_s=left.share_s,
            ) as http_at,
        ):
            addresses = Addresses(grpc_at, http_at, admin_at, monitoring_at)
            _log.info(
                "listening", version=__version__, grpc=grpc_at, http=http_at, admin=admin_at,
                **({"monitoring": monitoring_at} if monitoring_at else {}),
            )  # fmt: skip
            try:
                yield Daemon(addresses, health, connection, roster, reload, due, forwarder)
            finally:
                # Readiness fails first; then pulls stop and deliveries finish, while their handlers may still emit.
                left.start()
                health.stop()
                _log.info("stopping", timeout_s=config.shutdown_timeout)
                for task in background:
                    task.cancel()
                await roster.stop(
                    config.shutdown_timeout * DELIVERIES_SHARE,
                    hand_back_s=config.shutdown_timeout * (1 - DELIVERIES_SHARE) / 4,
                )
                await calls.finish(left.share_s())
                events.end_streams(Refusal(Reason.STOPPING, "the daemon is stopping", retry_after_s=1.0))
            # Leaving the blocks stops ingress, …
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left.share_s()):
                await emitter.wait_idle()  # … awaits the PubAcks, …
                await due.wait_idle()
        for task in to_the_end:
            task.cancel()
        # … drains NATS, stops the embedded server, closes the spool, and the administration address last.


async def _once_set(registered: asyncio.Event, watch: Callable[[], Awaitable[None]]) -> None:
    """Watch from when everything was registered once: until then, the bring-up registers what is missing."""
    await registered.wait()
    await watch()


async def _bring_up(
    config: Config,
    connection: Connection,
    own: Mapping[str, Callable[[], Awaitable[None]]],
    roster: Roster,
    health: Health,
    registered: asyncio.Event,
) -> None:
    """Register walnatsd's own streams and all that is declared, however long NATS takes to come."""
    for name, register in own.items():
        await _register_stream(name, register, connection, health)
    await roster.register_file(config.events, config.actors)
    registered.set()
    health.clear("startup")
    await health.wait_ready()
    _log.info("ready", events=len(config.events), actors=len(config.actors))


async def _register_stream(
    name: str, register: Callable[[], Awaitable[None]], connection: Connection, health: Health
) -> None:
    part = f"stream {name}"
    while True:
        health.set_problem(part, "not registered in NATS yet")
        await connection.wait_connected()
        try:
            await register()
        except (BrokerError, Refusal) as error:
            health.set_problem(part, str(error))
            _log.error("can't register walnatsd's own stream; trying again", stream=name, why=str(error))
            await asyncio.sleep(1.0)
        else:
            health.clear(part)
            return


@contextlib.asynccontextmanager
async def _spool(config: Config, metrics: Metrics) -> AsyncIterator[Spool | None]:
    """Open the spool, where there is one."""
    if config.spool is None:
        yield None
        return
    async with open_spool(config.spool, metrics) as spool:
        metrics.spool_messages.set_function(lambda: spool.messages)
        metrics.spool_bytes.set_function(lambda: spool.bytes)
        metrics.spool_oldest.set_function(lambda: spool.oldest_age_s)
        metrics.spool_set_aside.set_function(lambda: spool.set_aside_messages)
        yield spool


@contextlib.asynccontextmanager
async def _monitoring(config: Config, health: Health, metrics: Metrics, left: Countdown) -> AsyncIterator[str]:
    """Serve the monitoring address, where there is one."""
    if config.monitoring is None:
        yield ""
        return
    app = monitoring_app(health, metrics)
    async with serve_web("monitoring", config.monitoring.listen, app, metrics, stop_within_s=left.share_s) as address:
        yield address


def _certificates(part: str, tls: ServerTls | None, metrics: Metrics) -> Certificates | None:
    """Read the certificates of a listening address, where it has TLS."""
    if tls is None:
        return None
    try:
        certificates = Certificates(part, server_files(tls))
    except ValueError as error:  # they were fine when the config was loaded
        raise ListenError(f"can't use {part}.tls: {error}") from None
    metrics.watch_certificate(part, certificates.valid_until_s, lambda: bool(certificates.problem))
    return certificates


def _guard(address: Http | Admin) -> Guard:
    return Guard(address.listen, address.allowed_hosts)
