"""Bringing the schedules of one clock in NATS to its declaration."""

from collections.abc import Iterable, Mapping

from walnatsd.broker.clock_schedules import ClockSchedules, Schedule, is_as, owner_of, schedules_of, words_of
from walnatsd.broker.inspection import Stored
from walnatsd.broker.registration import Registered
from walnatsd.config.settings import Manage, Service
from walnatsd.model.clock import Clock
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal


def part_of(clock: Clock) -> str:
    """Name a clock as a part of the daemon that may have a problem."""
    return f"clock of {clock.event}"


def owner_in(service: Service) -> str:
    """Give the name under which a service owns its clocks; empty where its config gives it none.

    The default, the host's name, is another one for each sidecar of a service, or the same one for several services.
    """
    return service.name if "name" in service.model_fields_set else ""


def schedules_by_stream(
    clocks: Iterable[Clock], events: Iterable[Event], owner: str
) -> dict[str, Mapping[str, Schedule]]:
    """Give the schedules of clocks, for the stream of each one's event."""
    encoded = {event.name for event in events if event.codecs}
    return {clock.stream: schedules_of(clock, owner, encoded=clock.event in encoded) for clock in clocks}


async def register_clock(
    schedules: ClockSchedules,
    clock: Clock,
    wanted: Mapping[str, Schedule],
    present: Mapping[str, Stored],
    manage: Manage,
    *,
    owner: str,
    may_change: bool,
    dry_run: bool = False,
) -> Registered | None:
    """Register a clock: what is missing always, what differs where that is allowed.

    Args:
        schedules: Where they are written.
        clock: The declaration.
        wanted: Its schedules by subject.
        present: Those that are there.
        manage: What may be done.
        owner: Name of the service that declares it; empty where it has none.
        may_change: Whether the declaration is new, so that what differs is older.
        dry_run: Write nothing.

    Returns:
        What was done; None where another sidecar was faster, so that it must be read again what is there.

    Raises:
        Refusal: SERVER_VERSION: the server is too old for clocks; INVALID_DECLARATION: it does not know the time zone;
            CONFLICT: it is missing and must not be created.
        BrokerError: NATS did not answer, or does not accept it.
    """
    if not present and not manage.create:
        raise Refusal(Reason.CONFLICT, f"the {part_of(clock)} is missing in NATS, and nats.manage.create is false")
    differing = [name for name, each in present.items() if name not in wanted or not is_as(each.headers, wanted[name])]
    foreign = sorted({owner_of(each.headers) for each in present.values()} - {"", owner})
    if differing and (foreign or not may_change or not manage.update):
        # all or nothing: half of it would be neither of the two
        whose = f"the service {foreign[0]!r} declares it as" if foreign else "it is"
        why = "" if manage.update else "; nats.manage.update is false"
        return Registered(drift=(f"{whose} {words_of(present[differing[0]].headers)}, here it is {clock}{why}",))
    may_claim = owner != "" and may_change and manage.update
    unnamed = [name for name, each in present.items() if may_claim and not owner_of(each.headers)]
    missing = [name for name in wanted if name not in present or name in {*differing, *unnamed}]
    if dry_run:
        await schedules.try_out({name: wanted[name] for name in missing})
    else:
        for name in missing:
            if not await schedules.write(name, wanted[name], over=present.get(name)):
                return None
        for name in present.keys() - wanted.keys():
            await schedules.remove_schedule(name)
    changed = bool(present) and bool(missing or differing)
    return Registered(created=not present, updated=(str(clock),) if changed else ())
