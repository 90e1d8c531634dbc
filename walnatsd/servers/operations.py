"""What can be called over HTTP: each call is declared once, for its route, the check of its parameters and its description.

`serve` is the only way to add a path, so nothing is served that `/openapi.json` does not describe.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from pydantic import TypeAdapter

from walnatsd.api.pages import DEFAULT_LIMIT, MAX_LIMIT
from walnatsd.model.names import MAX_NAME_LENGTH, ActorName, EventName
from walnatsd.model.number import read_number
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.model.units import PositiveDuration
from walnatsd.servers.shortcut import SHORTCUT, Handler
from walnatsd.servers.tokens import TOKENS

Schema = Mapping[str, Any]
"""A JSON Schema."""
EVENT_NAME: Schema = TypeAdapter(EventName).json_schema() | {"maxLength": MAX_NAME_LENGTH}
ACTOR_NAME: Schema = TypeAdapter(ActorName).json_schema() | {"maxLength": MAX_NAME_LENGTH}
DURATION: Schema = TypeAdapter(PositiveDuration).json_schema()

_PLACE = "{%s}"
_SEGMENT = "{%s:[^/]+}"  # whatever stands there; what is no name is refused in words, and not as an unknown path


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a call takes besides its body."""

    name: str
    where: Literal["query", "path", "header"]
    description: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    required: bool = False


EVENT = Parameter("event", "path", "The event's name.", EVENT_NAME)
PAGE = (
    Parameter(
        "limit",
        "query",
        "How many to give at most.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Parameter("cursor", "query", "`next_cursor` of the page before."),
)
"""What every list takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call that succeeds is answered with."""

    description: str
    media_type: str = "application/json"
    schema: Schema | None = None
    """None where there is no body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Their names and what they say."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A call."""

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    """With `{name}` for each path parameter."""
    summary: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Schema] | None = None
    """Schemas by media type; None where the call has no body."""
    reasons: tuple[Reason, ...] = ()
    """Why it can be refused, besides what every call can be refused for."""
    description: str = ""
    is_frequent: bool = False
    """Many callers call it all the time, so it is found without a search."""
    for_probes: bool = False
    """HEAD is answered too, and parameters that nobody knows are passed over, for probes come with some of their own."""

    def check(self, request: web.Request) -> None:
        """See that a request has only the parameters that there are, and each one once.

        Raises:
            Refusal: INVALID_REQUEST.
        """
        query = request.query
        if not query:
            return
        known = {parameter.name for parameter in self.parameters if parameter.where == "query"}
        if not self.for_probes and (unknown := set(query) - known):
            there_are = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise Refusal(
                Reason.INVALID_REQUEST, f"unknown parameters: {', '.join(sorted(unknown))[:200]}; {there_are}"
            )
        if twice := next((name for name in query if len(query.getall(name)) > 1), None):
            raise Refusal(Reason.INVALID_REQUEST, f"the parameter {twice} stands twice")

    def uid_in(self, request: web.Request) -> str:
        """Give the uid that a request names, as it stands there; empty where there is none, or it is not for a uid."""
        if not any(parameter.name == "uid" for parameter in self.parameters):
            return ""
        named = request.match_info.get("uid") or request.query.get("uid")
        return named or request.headers.get("Idempotency-Key", "").strip('"')


OPERATIONS = web.AppKey("OPERATIONS", list[Operation])
"""What an application serves."""


def serve(app: web.Application, operation: Operation, handler: Handler) -> None:
    """Have a handler answer the calls of an operation."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            operation.check(request)
            return await handler(request)
        except Refusal as refusal:
            if refusal.reason is not Reason.INVALID_UID:  # refused before anybody has looked at the uid
                refusal.uid = refusal.uid or operation.uid_in(request)
            raise

    path = operation.path
    for parameter in operation.parameters:
        if parameter.where == "path":
            path = path.replace(_PLACE % parameter.name, _SEGMENT % parameter.name)
    routes = [app.router.add_route(operation.method, path, handle)]
    if operation.for_probes:
        routes.append(app.router.add_head(path, handle))
    if (tokens := app.get(TOKENS)) is not None:
        for route in routes:
            tokens.note(route, operation.name)
    if operation.is_frequent:
        app[SHORTCUT].note(routes[0])
    app.setdefault(OPERATIONS, []).append(operation)


def number_in_path(request: web.Request, name: str, what: str) -> int:
    """Read the number that names something in a path, as the parameter `name`; `what` says what it names.

    Raises:
        Refusal: INVALID_REQUEST: it is no number.
    """
    text = request.match_info[name]
    number = read_number(text)
    if number is None:
        raise Refusal(Reason.INVALID_REQUEST, f"{what} is named by its number, not {text[:50]!r}")
    return number
