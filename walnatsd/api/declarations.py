"""Declarations that come over gRPC, checked by the very types that check the config file."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from walnatsd.config import checks
from walnatsd.config.problems import Problem, translate
from walnatsd.model.actor import Actor
from walnatsd.model.declared import Declared
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal

_SECRET = re.compile(r"\s*\{\s*\"?(env|file)\"?\s*:.*\}\s*", re.DOTALL)
"""A reference as the config file has it; the message has text only."""

D = TypeVar("D", bound=Declared)


def read_event(data: Mapping[str, Any]) -> Event:
    """Read the declaration of an event.

    Raises:
        Refusal: INVALID_DECLARATION, with all problems.
    """
    return _read(Event, data)


def read_actor(data: Mapping[str, Any]) -> Actor:
    """Read the declaration of an actor.

    Raises:
        Refusal: INVALID_DECLARATION, with all problems.
    """
    if problems := [
        Problem(("headers", name), "secrets are refused in registrations; declare the actor in the config file")
        for name, value in data.get("headers", {}).items()
        if _SECRET.fullmatch(value)
    ]:
        raise _invalid(Actor, data, problems)
    actor = _read(Actor, data)
    if problems := list(checks.expressions_compile(actor, ())):
        raise _invalid(Actor, data, problems)
    return actor


def _read(model: type[D], data: Mapping[str, Any]) -> D:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _invalid(model, data, translate(error.errors(), data, model)) from None


def _invalid(model: type[Declared], data: Mapping[str, Any], problems: Iterable[Problem]) -> Refusal:
    name = data.get("name", "")
    return Refusal(
        Reason.INVALID_DECLARATION,
        f"the {model.__name__.lower()} {name!r} can't be registered: " + "; ".join(map(str, problems)),
    )
