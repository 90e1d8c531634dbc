"""`walnatsd apply`."""

import asyncio
import os
import sys

import click

from walnatsd.api.registrar import part_of, part_of_event
from walnatsd.broker import dead_letters, max_deliveries, own_streams
from walnatsd.broker.clock_schedules import ClockSchedules, too_old
from walnatsd.broker.connection import Connection, connect
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.registration import Registered, register_actor, register_event
from walnatsd.cli.config_option import config_option, load_or_exit
from walnatsd.clocks.registration import owner_in, register_clock, schedules_by_stream
from walnatsd.clocks.registration import part_of as part_of_clock
from walnatsd.config.load import Loaded
from walnatsd.config.settings import Config
from walnatsd.model.refusal import Refusal
from walnatsd.observe import logs
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics

FAILED = 1


@click.command("apply")
@config_option
@click.option("--force", is_flag=True, help="Also write what discards stored messages or reduces replicas.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--timeout", default=15.0, show_default=True, metavar="SECONDS", help="How long to wait for NATS.")
def command(file: str | None, force: bool, dry_run: bool, timeout: float) -> None:
    """Register the declared events, actors and clocks in NATS, and exit: for deployments that prepare before they start."""
    loaded = load_or_exit(file, os.environ)
    logs.set_up("error", loaded.config.log.format)
    sys.exit(asyncio.run(_apply(loaded, force=force, dry_run=dry_run, timeout_s=timeout)))


async def _apply(loaded: Loaded, *, force: bool, dry_run: bool, timeout_s: float) -> int:
    config = loaded.config
    health = Health()
    failures = 0
    async with connect(
        config.nats.reached, loaded.secrets, name="walnatsd/apply", health=health, metrics=Metrics()
    ) as connection:
        try:
            await asyncio.wait_for(connection.wait_connected(), timeout_s)
        except TimeoutError:
            click.echo(f"error: {health.problems.get('nats', 'NATS is not there')}", err=True)
            return FAILED
        jetstream = JetStream(connection, config.nats.domain)
        has_schedules: bool | None = None
        if not dry_run:
            replicas = config.nats.system_replicas
            try:
                await dead_letters.register_stream(jetstream, config.dead_letters, replicas=replicas)
                has_schedules = await own_streams.register_work_stream(jetstream, replicas=replicas)
                await max_deliveries.register(jetstream, replicas=replicas)
            except (BrokerError, Refusal) as error:
                failures += _failed("walnatsd's own streams", error)
        for event in config.events:
            try:
                registered = await register_event(jetstream, event, config.nats.manage, force=force, dry_run=dry_run)
            except (Refusal, BrokerError) as error:
                failures += _failed(part_of_event(event.name), error)
            else:
                _report(part_of_event(event.name), registered, dry_run=dry_run)
        for actor in config.actors:
            try:
                registered = await register_actor(jetstream, actor, config.nats.manage, dry_run=dry_run)
            except (Refusal, BrokerError) as error:
                failures += _failed(part_of(actor), error)
            else:
                _report(part_of(actor), registered, dry_run=dry_run)
        failures += await _apply_clocks(config, connection, jetstream, has_schedules=has_schedules, dry_run=dry_run)
    return FAILED if failures else 0


async def _apply_clocks(
    config: Config, connection: Connection, jetstream: JetStream, *, has_schedules: bool | None, dry_run: bool
) -> int:
    """Register the clocks. Those that are declared no more are removed by the daemon.

    Where `has_schedules` is None, nobody asked the server yet.
    """
    schedules, owner = ClockSchedules(connection, jetstream), owner_in(config.service)
    wanted = schedules_by_stream(config.clocks, config.events, owner)
    failures = 0
    for clock in config.clocks:
        registered = None
        try:
            if has_schedules is None and (stream := await jetstream.stream(own_streams.WORK)) is not None:
                has_schedules = bool(stream["config"].get("allow_msg_schedules"))
            if has_schedules is None:
                registered = Registered(created=True)  # all that can be said before walnatsd's own stream is there
            elif not has_schedules:
                raise too_old(connection.server_version)
            while registered is None:
                present = (await schedules.all()).get(clock.stream, {})
                registered = await register_clock(
                    schedules,
                    clock,
                    wanted[clock.stream],
                    present,
                    config.nats.manage,
                    owner=owner,
                    may_change=True,
                    dry_run=dry_run,
                )
        except (Refusal, BrokerError) as error:
            failures += _failed(part_of_clock(clock), error)
        else:
            _report(part_of_clock(clock), registered, dry_run=dry_run)
    return failures


def _failed(what: str, error: Exception) -> int:
    click.echo(f"{what}: error: {error}", err=True)
    return 1


def _report(what: str, registered: Registered, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    if registered.created:
        click.echo(f"{what}: {would}created")
    elif registered.updated:
        click.echo(f"{what}: {would}updated: {', '.join(registered.updated)}")
    elif not registered.drift:
        click.echo(f"{what}: nothing to do")
    for difference in registered.drift:
        click.echo(f"{what}: not written: {difference}")
