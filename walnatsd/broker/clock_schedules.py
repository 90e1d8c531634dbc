"""Clocks in NATS: schedules that nats-server fires by itself, and the ticks that come of them.

A clock is one schedule, or some, on subjects of the event's own below `walnatsd.schedule.walnatsd-clock.`: an event's name
never begins with `walnatsd`, so delayed emits are elsewhere. What fires goes to one subject per clock and takes the place
of what lies there (`Nats-Schedule-Rollup`), so of the ticks that nobody fetched only the last one is left.

What is stored carries no payload: who fetches a tick makes it from the headers, for only then is it known which tick it is.
Nothing but nats-server 2.14 or newer understands these schedules. 2.12 knows `@at` alone and answers 10189.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

import orjson

from walnatsd.broker import inspection
from walnatsd.broker.connection import Connection
from walnatsd.broker.envelope import EVENT, OWN
from walnatsd.broker.errors import STREAM_NOT_FOUND, ApiError
from walnatsd.broker.inspection import Stored
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import DUE, SCHEDULES, WORK, purge
from walnatsd.broker.wire import head_of
from walnatsd.model import cron, headers
from walnatsd.model.clock import Clock
from walnatsd.model.names import check_event_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.model.rhythm import UTC, Every, Rhythm, Wall

PLACE = "walnatsd-clock"
CLOCK = f"{OWN}clock"
"""When the clock ticks: `every 60`, or `cron 0 0 12 * * 1,2,3,4,5`."""
TIMEZONE = f"{OWN}clock-timezone"
OWNER = f"{OWN}clock-owner"
"""Name of the service that declared the clock, percent-encoded; empty where it has none."""
ENCODED = f"{OWN}clock-encoded"
"""There where the event has codecs: only a sidecar that declares the event can make the payload."""

_PATTERN_INVALID = 10189
_ZONE_INVALID = 10223
_WRONG_SEQUENCES = frozenset({10071, 10164})
_TARGET_INVALID = 10190
_NO_TARGET = "nowhere"
_SCHEDULE = "Nats-Schedule"
_TARGET = "Nats-Schedule-Target"
_ZONE = "Nats-Schedule-Time-Zone"

Schedule = Mapping[str, str]
"""The headers of one schedule."""


def owner_of(schedule: Schedule) -> str:
    """Name the service that declared a schedule; empty where it had no name."""
    return unquote(schedule.get(OWNER, ""))


def words_of(schedule: Schedule) -> str:
    """Say when a schedule's clock ticks."""
    return f"{schedule.get(CLOCK, '?')} in {schedule.get(TIMEZONE, '?')}"


def is_as(present: Schedule, wanted: Schedule) -> bool:
    """Whether a schedule ticks as wanted, whoever declared it."""
    names = {*wanted, _ZONE, ENCODED} - {OWNER}
    return all(present.get(name) == wanted.get(name) for name in names)


def schedules_of(clock: Clock, owner: str, *, encoded: bool) -> dict[str, Schedule]:
    """Give the schedules of a clock by subject.

    Args:
        clock: The declaration.
        owner: Name of the service that declares it; empty where it has none.
        encoded: Whether its event has codecs.
    """
    rhythm = clock.rhythm
    header = {
        _TARGET: f"{DUE}{PLACE}.{clock.stream}",
        "Nats-Schedule-Rollup": "sub",
        EVENT: clock.event,
        CLOCK: _rhythm_in_words(rhythm),
        TIMEZONE: clock.timezone,
        OWNER: quote(owner),  # it may hold what a header can't
    }
    if encoded:
        header[ENCODED] = "true"
    if rhythm.zone != UTC:  # UTC is the default, and nats-server may have no time zone database
        header[_ZONE] = rhythm.zone
    return {
        f"{SCHEDULES}{PLACE}.{clock.stream}.{number}": {_SCHEDULE: schedule, **header}
        for number, schedule in enumerate(rhythm.schedules)
    }


def _rhythm_in_words(rhythm: Rhythm) -> str:
    return f"every {rhythm.period_s}" if isinstance(rhythm, Every) else f"cron {rhythm.cron.spelled_out}"


@dataclass(frozen=True, slots=True)
class Fired:
    """What a tick that lies in NATS says of its clock."""

    event: str
    rhythm: Rhythm
    timezone: str
    is_encoded: bool
    """The payload goes through the codecs of the event."""


def is_tick(header: Mapping[str, str]) -> bool:
    """Whether a due message is the tick of a clock."""
    return CLOCK in header


def read_tick(header: Mapping[str, str]) -> Fired:
    """Read the headers of a tick.

    Raises:
        ValueError: They make no sense. Another version of walnatsd may understand them.
    """
    event, words, zone = header.get(EVENT, ""), header.get(CLOCK, ""), header.get(TIMEZONE, "")
    try:
        check_event_name(event)
        kind, _, rest = words.partition(" ")
        if kind == "every" and rest.isdecimal() and int(rest):
            return Fired(event, Every(int(rest)), zone, ENCODED in header)
        if kind == "cron":
            return Fired(event, Wall(cron.parse(rest), zone), zone, ENCODED in header)
    except ValueError as error:
        raise ValueError(f"a tick that can't be read: {error}") from None
    raise ValueError(f"a tick that can't be read: the header {CLOCK} is {words!r}")


class ClockSchedules:
    """Reads and writes the schedules of clocks."""

    def __init__(self, connection: Connection, jetstream: JetStream) -> None:
        self._connection = connection
        self._jetstream = jetstream

    async def all(self) -> dict[str, dict[str, Stored]]:
        """Read all clocks: for the name of each event's stream, the schedules by subject.

        Raises:
            BrokerError: NATS did not answer.
        """
        try:
            body = {"subjects_filter": f"{SCHEDULES}{PLACE}.>"}
            info = await self._jetstream.request(f"STREAM.INFO.{WORK}", body)
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            return {}
        found: dict[str, dict[str, Stored]] = {}
        for subject in sorted(info["state"].get("subjects") or ()):
            stored = await inspection.stored_message(self._jetstream, WORK, {"last_by_subj": subject})
            if stored is not None:
                stream = subject.removeprefix(f"{SCHEDULES}{PLACE}.").partition(".")[0]
                found.setdefault(stream, {})[subject] = stored
        return found

    async def write(self, subject: str, wanted: Schedule, *, over: Stored | None) -> bool:
        """Store a schedule.

        Args:
            subject: Its subject.
            wanted: Its headers.
            over: What it takes the place of; None where there was none.

        Returns:
            False where somebody else was faster; nothing was stored.

        Raises:
            Refusal: SERVER_VERSION: the server is too old for clocks; INVALID_DECLARATION: it does not know the time zone.
            BrokerError: NATS did not answer, or does not accept it.
        """
        # no Nats-Msg-Id: a clock that is removed and declared again within the window must not count as a duplicate
        sequence = str(over.sequence) if over is not None else "0"
        code = await self._publish(subject, {**wanted, headers.EXPECTED_LAST_SUBJECT_SEQUENCE: sequence})
        return code not in _WRONG_SEQUENCES

    async def try_out(self, wanted: Mapping[str, Schedule]) -> None:
        """See whether the server takes schedules; nothing is stored. Raises as `write`.

        The server reads pattern and time zone first, and then refuses a target that no stream of its own has.
        """
        for subject, schedule in wanted.items():
            await self._publish(subject, {**schedule, _TARGET: _NO_TARGET})

    async def _publish(self, subject: str, schedule: Schedule) -> int:
        """Publish a schedule; 0 where it was stored, else the code of an error that is none here."""
        answer = orjson.loads((await self._connection.request(subject, head=head_of(schedule))).payload)
        error = answer.get("error") or {}
        code = int(error.get("err_code", 0))
        if not error or code in _WRONG_SEQUENCES or code == _TARGET_INVALID:
            return code
        if code == _PATTERN_INVALID:
            raise too_old(self._connection.server_version)
        if code == _ZONE_INVALID:
            raise Refusal(
                Reason.INVALID_DECLARATION,
                f"the NATS server does not know the time zone {schedule[_ZONE]!r}: its machine or image needs a time zone "
                "database (tzdata)",
            )
        raise ApiError(error.get("code", 500), code, error.get("description", "unknown error"))

    async def remove(self, stream: str) -> None:
        """Remove the clock of an event, and the tick that was not fetched yet.

        Raises:
            BrokerError: NATS did not answer.
        """
        await purge(self._jetstream, f"{SCHEDULES}{PLACE}.{stream}.*")
        await purge(self._jetstream, f"{DUE}{PLACE}.{stream}")

    async def remove_schedule(self, subject: str) -> None:
        """Remove one schedule of a clock; raises as `remove`."""
        await purge(self._jetstream, subject)


def too_old(version: str) -> Refusal:
    """Say that the server has no schedules that repeat."""
    return Refusal(
        Reason.SERVER_VERSION,
        f"clocks need nats-server 2.14 or newer, and this one is {version}; update it, or take the clock out of the file",
    )
