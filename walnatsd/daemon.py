"""The composition root: what the daemon is made of, in which order it starts and stops."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import structlog

from walnatsd import __version__
from walnatsd.api.actors import Actors
from walnatsd.api.events import Events
from walnatsd.api.roster import Roster
from walnatsd.broker import dead_letters
from walnatsd.broker.connection import Connection, connect
from walnatsd.broker.dead_letters import DeadLetters
from walnatsd.broker.embedded import embedded_server
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.publisher import Publisher
from walnatsd.config.load import Loaded
from walnatsd.config.settings import Config, Nats
from walnatsd.dispatch.actor_loop import Equipment
from walnatsd.dispatch.pulse import Pulse
from walnatsd.dispatch.screen import Screen
from walnatsd.dispatch.sidecar import Sidecar
from walnatsd.dispatch.slots import Slots
from walnatsd.emit.emitter import Emitter
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.codecs import open_codecs
from walnatsd.servers.admin import monitoring_app
from walnatsd.servers.grpc import serve_grpc
from walnatsd.servers.http import http_app
from walnatsd.servers.web import serve_web
from walnatsd.webhook.probe import answers_well
from walnatsd.webhook.session import webhook_session
from walnatsd.webhook.webhook import Webhook, calling

INGRESS_SHARE = 0.2
"""Share of `shutdown_timeout` that is kept for what follows the deliveries: ingress, PubAcks, NATS."""

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


@contextlib.asynccontextmanager
async def running(loaded: Loaded) -> AsyncIterator[Daemon]:
    """Run the daemon while the body runs, then stop it without loss.

    It listens at once, and is ready when NATS is there and everything declared is registered.

    Raises:
        ListenError: An address can't be listened on.
        EmbeddedServerError: The embedded server can't be run.
    """
    config = loaded.config
    health, metrics = Health(), Metrics()
    nats = _nats_settings(config)
    async with (
        serve_web("admin", config.admin.listen, monitoring_app(health, metrics)) as admin_at,
        _monitoring(config, health, metrics) as monitoring_at,
        embedded_server(config.nats.embedded),
        connect(
            nats, loaded.secrets, name=f"walnatsd/{config.service.name}", health=health, metrics=metrics
        ) as connection,
        webhook_session() as session,
        asyncio.TaskGroup() as tasks,
    ):
        jetstream = JetStream(connection, config.nats.domain)
        publisher = Publisher(connection)
        pulse = Pulse(time.monotonic)
        sidecar = Sidecar(
            connection=connection,
            jetstream=jetstream,
            dead_letters=DeadLetters(connection, publisher),
            slots=Slots(config.max_jobs, time.monotonic),
            pulse=pulse,
            metrics=metrics,
            pause_after=config.dead_letters.pause_actor_after,
            reply_prefixes=config.nats.reply_prefixes,
        )
        codecs_for = functools.cache(functools.partial(open_codecs, reveal=loaded.secrets.reveal))

        def equip(actor: Actor, event: Event) -> Equipment:
            return Equipment(
                Webhook(session, actor, calling(actor, loaded.secrets, source=config.service.name)),
                Screen(actor, codecs_for(event.codecs), source=config.service.name),
                functools.partial(answers_well, session, actor.wait_for) if actor.wait_for is not None else None,
            )

        roster = Roster(jetstream, config.nats.manage, sidecar, equip, health=health, metrics=metrics)
        roster.declare(config.events)
        emitter = Emitter(publisher, roster.find_event, codecs_for, config.emit, metrics)
        events, actors = Events(emitter, roster), Actors(roster)
        health.set_problem("startup", "the declared events and actors are not registered yet")
        background = [
            tasks.create_task(pulse.run(), name="pulse"),
            tasks.create_task(_bring_up(config, jetstream, connection, roster, health), name="bring-up"),
        ]
        async with (
            roster.open(),
            serve_grpc(config.grpc.listen, events, actors, health) as grpc_at,
            serve_web("http", config.http.listen, http_app(events)) as http_at,
        ):
            addresses = Addresses(grpc_at, http_at, admin_at, monitoring_at)
            _log.info(
                "listening", version=__version__, grpc=grpc_at, http=http_at, admin=admin_at,
                **({"monitoring": monitoring_at} if monitoring_at else {}),
            )  # fmt: skip
            try:
                yield Daemon(addresses, health, connection)
            finally:
                # Readiness fails first; then pulls stop and deliveries finish, while their handlers may still emit.
                health.set_problem("stopping", "the daemon is stopping")
                _log.info("stopping", timeout_s=config.shutdown_timeout)
                background[1].cancel()
                await roster.stop(config.shutdown_timeout * (1 - INGRESS_SHARE))
            # Leaving the blocks stops ingress, …
        await _within(config.shutdown_timeout * INGRESS_SHARE, emitter.wait_idle)  # … awaits the PubAcks, …
        background[0].cancel()
        # … drains NATS, stops the embedded server, and the administration address last.


async def _bring_up(
    config: Config, jetstream: JetStream, connection: Connection, roster: Roster, health: Health
) -> None:
    """Register walnatsd's own stream and all that is declared, however long NATS takes to come."""
    await _register_dead_letters(config, jetstream, connection, health)
    await roster.register_file(config.events, config.actors)
    health.clear("startup")
    await health.wait_ready()
    _log.info("ready", events=len(config.events), actors=len(config.actors))


async def _register_dead_letters(config: Config, jetstream: JetStream, connection: Connection, health: Health) -> None:
    part = f"stream {dead_letters.STREAM}"
    while True:
        health.set_problem(part, "not registered in NATS yet")
        await connection.wait_connected()
        try:
            await dead_letters.register_stream(jetstream, config.dead_letters, replicas=config.nats.system_replicas)
        except BrokerError as error:
            health.set_problem(part, str(error))
            _log.error("can't register the dead-letter stream; trying again", why=str(error))
            await asyncio.sleep(1.0)
        else:
            health.clear(part)
            return


@contextlib.asynccontextmanager
async def _monitoring(config: Config, health: Health, metrics: Metrics) -> AsyncIterator[str]:
    """Serve the monitoring address, where there is one."""
    if config.monitoring is None:
        yield ""
        return
    async with serve_web("monitoring", config.monitoring.listen, monitoring_app(health, metrics)) as address:
        yield address


def _nats_settings(config: Config) -> Nats:
    """Point the connection to the embedded server, where there is one."""
    if config.nats.embedded is None:
        return config.nats
    return config.nats.model_copy(update={"servers": (f"nats://127.0.0.1:{config.nats.embedded.port}",)})


async def _within(timeout_s: float, condition: "Callable[[], object]") -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(condition(), timeout_s)  # type: ignore[arg-type]
