"""Reloading the config file while running: everything is checked first, then what changed is applied."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from walnatsd.api.registrar import part_of, part_of_event
from walnatsd.api.roster import Roster
from walnatsd.broker.errors import BrokerError
from walnatsd.clocks.keeper import Keeper
from walnatsd.clocks.registration import part_of as part_of_clock
from walnatsd.config.load import Loaded
from walnatsd.config.problems import ConfigError
from walnatsd.config.secrets import Secrets
from walnatsd.model.actor import Actor
from walnatsd.model.clock import Clock
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.model.scope import Scope

_CHANGEABLE = frozenset({"events", "actors", "clocks", "auth"})
_TOKENS = "auth.tokens"

Declaration = Event | Actor | Clock

_log = structlog.get_logger("walnatsd.reload")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload changed: names of events, and of actors and clocks with their event; and `auth.tokens`."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class Reload:
    """Brings the running daemon to what the config file says now."""

    def __init__(
        self, roster: Roster, clocks: Keeper, loaded: Loaded, users: Sequence[Callable[[Loaded], None]]
    ) -> None:
        """Prepare.

        Args:
            roster: Starts and stops actors.
            clocks: Keeps clocks.
            loaded: What runs now.
            users: Called with the new config before its actors start, so that they are equipped by it.
        """
        self._roster = roster
        self._clocks = clocks
        self._loaded = loaded
        self._users = users
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> Reloaded:
        """Read the file again and apply it. A bad file changes nothing.

        Raises:
            Refusal: INVALID_CONFIG: the file, or what it would change, can't be used, with all reasons;
                NATS_UNAVAILABLE: it can't be checked now.
        """
        async with self._one_at_a_time:
            try:
                reloaded = await self._run()
            except Refusal as refusal:
                _log.error("the config file was not reloaded; nothing changed", why=refusal.message)
                raise
            _log.info("reloaded the config file", **{name: list(getattr(reloaded, name)) for name in _PARTS})
            return reloaded

    async def _run(self) -> Reloaded:
        try:
            new = self._loaded.again()
        except ConfigError as error:
            raise Refusal(Reason.INVALID_CONFIG, str(error)) from None
        if fixed := _fixed_changes(self._loaded, new):
            raise Refusal(
                Reason.INVALID_CONFIG,
                f"{', '.join(fixed)} can't change while the daemon runs; restart it, or take the change back",
            )
        before, after = _named(self._loaded), _named(new)
        added = [name for name in after if name not in before]
        changed = [name for name in after if name in before and not _same(before[name], after[name], self._loaded, new)]
        touched = [after[name] for name in (*added, *changed)]
        await self._check(touched, new)
        if _tokens(self._loaded) != _tokens(new):
            changed.append(_TOKENS)
        for use in self._users:
            use(new)
        self._loaded = new
        self._clocks.declare(new.config.clocks, new.config.events)
        await self._roster.replace(
            new.config.events,
            new.config.actors,
            changed=[each for each in touched if not isinstance(each, Clock)],
        )
        removed = [name for name in before if name not in after]
        for actor in [each for name in removed if isinstance(each := before[name], Actor)]:
            if actor.event not in self._roster.events:  # otherwise it is seen as an orphan from now on
                _log.warning(
                    "an actor and its event left the file; its consumer stays and holds messages back until it is removed "
                    "with walnatsd actors delete",
                    event_name=actor.event, actor=actor.name,
                )  # fmt: skip
        return Reloaded(tuple(added), tuple(changed), tuple(removed))

    async def _check(self, touched: list[Declaration], new: Loaded) -> None:
        events = [each for each in touched if isinstance(each, Event)]
        actors = [each for each in touched if isinstance(each, Actor)]
        clocks = [each for each in touched if isinstance(each, Clock)]
        try:
            problems = await self._roster.registrar.check(events, actors)
            problems += await self._clocks.check(clocks, new.config.events)
        except BrokerError as error:
            raise Refusal(
                Reason.NATS_UNAVAILABLE, f"the changes can't be checked now: {error}", retry_after_s=1.0
            ) from None
        if problems:
            raise Refusal(Reason.INVALID_CONFIG, "NATS would not accept it: " + "; ".join(problems))


_PARTS = ("added", "changed", "removed")


def _fixed_changes(old: Loaded, new: Loaded) -> list[str]:
    """Name the parts that differ and can't be applied to a running daemon."""
    fixed = [
        name
        for name in type(new.config).model_fields
        if name not in _CHANGEABLE and getattr(old.config, name) != getattr(new.config, name)
    ]
    if bool(old.config.auth.tokens) != bool(new.config.auth.tokens):
        fixed.append("whether there are auth.tokens")
    return fixed


def _tokens(loaded: Loaded) -> dict[str, frozenset[Scope]]:
    return {loaded.secrets.reveal(each.token): frozenset(each.scopes) for each in loaded.config.auth.tokens}


def _named(loaded: Loaded) -> dict[str, Declaration]:
    named: dict[str, Declaration] = {part_of_event(event.name): event for event in loaded.config.events}
    named |= {part_of(actor): actor for actor in loaded.config.actors}
    return named | {part_of_clock(clock): clock for clock in loaded.config.clocks}


def _same(old: Declaration, new: Declaration, before: Loaded, after: Loaded) -> bool:
    """Whether a declaration is as it was: its keys, which of them are declared, and its secrets.

    An actor's event decodes what it gets, so an actor changes with the codecs of its event.
    """
    if old != new or old.model_fields_set != new.model_fields_set:
        return False
    if isinstance(new, Clock):
        return True
    if isinstance(new, Event):
        return _codecs(new.name, before) == _codecs(new.name, after)
    return _actor_secrets(new, before.secrets) == _actor_secrets(new, after.secrets) and (
        _codecs(new.event, before) == _codecs(new.event, after)
    )


def _codecs(event: str, loaded: Loaded) -> list[object]:
    [declared] = [each for each in loaded.config.events if each.name == event]
    keys = [key for codec in declared.codecs for part in (codec.hmac, codec.fernet) if part for key in part.keys]
    return [declared.codecs, [loaded.secrets.reveal(key) for key in keys]]


def _actor_secrets(actor: Actor, secrets: Secrets) -> list[str]:
    held = [*actor.signing_secrets, *(value for value in actor.headers.values() if not isinstance(value, str))]
    return [secrets.reveal(secret) for secret in held]
