"""Looking at dead letters, and removing them."""

import contextlib
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from walnatsd.broker.dead_letters import HISTORY, OWN, PREFIX, STREAM, TRUNCATED, dead_letter_uid
from walnatsd.broker.envelope import put_back
from walnatsd.broker.errors import STREAM_NOT_FOUND, ApiError, BrokerError
from walnatsd.broker.inspection import Stored, stored_message
from walnatsd.broker.jetstream import JetStream
from walnatsd.model import headers
from walnatsd.model.message import Message
from walnatsd.model.number import read_number


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that an actor gave up on."""

    sequence: int
    """Its place in the dead-letter stream."""
    died_at: float
    """When it was stored there, in seconds since the epoch."""
    message: Message
    """As it was in the event's stream; `replay` says which replay it was that died, 0 for none."""
    actor: str
    """Who gave it up."""
    reason: str
    """In words."""
    status: int | None
    """The HTTP status of the last attempt, where there was an answer."""
    attempts: int
    """Attempts that count."""
    last_attempt_at: str | None
    """RFC 3339."""
    truncated: str | None
    """What did not fit, like `history, payload`; None where all is there."""
    history: Mapping[str, Any] | None
    """The attempts as they were seen by the sidecar that gave it up; None where they are not there."""

    @property
    def uid(self) -> str:
        """The `Nats-Msg-Id` that it is stored under."""
        return dead_letter_uid(self.message, self.actor, self.message.replay)


class DeadLetterStream:
    """The stored dead letters."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream

    async def get(self, sequence: int) -> DeadLetter | None:
        """Read a dead letter, None where there is none of this number.

        Raises:
            BrokerError: NATS did not answer.
        """
        return await self._read({"seq": sequence}) if sequence else None  # NATS calls it a bad request

    async def after(self, sequence: int, stream: str | None, actor: str | None) -> DeadLetter | None:
        """Read the first dead letter behind a sequence, of this stream and this actor where they are given.

        Raises:
            BrokerError: NATS did not answer.
        """
        return await self._read({"seq": sequence + 1, "next_by_subj": f"{PREFIX}{stream or '*'}.{actor or '*'}"})

    async def _read(self, which: Mapping[str, Any]) -> DeadLetter | None:
        stored = await stored_message(self._jetstream, STREAM, which)
        return read_dead_letter(stored) if stored is not None else None

    async def last_sequence(self) -> int:
        """Give the highest number that a dead letter has had so far.

        Raises:
            BrokerError: NATS did not answer.
        """
        info = await self._jetstream.stream(STREAM)
        return int(info["state"]["last_seq"]) if info is not None else 0

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count the dead letters by stream and actor.

        Raises:
            BrokerError: NATS did not answer.
        """
        try:
            info = await self._jetstream.request(f"STREAM.INFO.{STREAM}", {"subjects_filter": f"{PREFIX}>"})
        except ApiError as error:
            if error.err_code == STREAM_NOT_FOUND:
                return {}
            raise
        counts = {}
        for subject, count in (info["state"].get("subjects") or {}).items():
            stream, _, actor = subject.removeprefix(PREFIX).partition(".")
            counts[stream, actor] = int(count)
        return counts

    async def remove(self, sequence: int) -> bool:
        """Erase a dead letter; False where it is gone already.

        Raises:
            BrokerError: NATS did not answer.
        """
        try:
            await self._jetstream.request(f"STREAM.MSG.DELETE.{STREAM}", {"seq": sequence})
        except ApiError:  # the server has many words for a message that is not there, so a look tells
            if await self.get(sequence) is None:
                return False
            raise
        return True

    async def remove_replayed(self, replay: Message, actor: str, sequence: int) -> None:
        """Remove the dead letter that a message is the replay of: whoever replayed it may have died before that."""
        with contextlib.suppress(BrokerError):  # it has been removed nearly always
            letter = await self.get(sequence)
            if letter is not None and letter.uid == dead_letter_uid(replay, actor, replay.replay - 1):
                await self.remove(sequence)


def read_dead_letter(stored: Stored) -> DeadLetter:
    """Read a message of the dead-letter stream.

    The subject says whose it is. What else is missing or makes no sense is left out: anybody may have stored it.
    """
    header = stored.headers
    stream, _, actor = stored.subject.removeprefix(PREFIX).partition(".")
    message = Message(
        event=header.get(f"{OWN}event") or stream,
        payload=stored.payload,
        headers={name: value for name, value in put_back(header).items() if not name.lower().startswith(OWN)},
        stream=stream,
        sequence=read_number(header.get(f"{OWN}sequence")) or 0,
        stored_at=_time(header.get(f"{OWN}stored-at")) or stored.stored_at,
        replay=read_number(header.get(headers.MESSAGE_ID, "").rpartition(":")[2]) or 0,
    )
    return DeadLetter(
        sequence=stored.sequence,
        died_at=stored.stored_at,
        message=message,
        actor=actor,
        reason=header.get(f"{OWN}reason", ""),
        status=read_number(header.get(f"{OWN}status")),
        attempts=read_number(header.get(f"{OWN}attempts")) or 0,
        last_attempt_at=header.get(f"{OWN}last-attempt-at"),
        truncated=header.get(TRUNCATED),
        history=_history(header.get(HISTORY)),
    )


def _time(text: str | None) -> float | None:
    try:
        return dt.datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None


def _history(text: str | None) -> Mapping[str, Any] | None:
    try:
        history = json.loads(text or "")
    except ValueError:
        return None
    return history if isinstance(history, dict) else None
