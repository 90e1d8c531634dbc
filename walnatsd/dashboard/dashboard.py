"""The pages and what their forms do. All of it are the use cases of administration; nothing is decided here."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote

from aiohttp import web

from walnatsd.api.access import Access, needed_for
from walnatsd.api.errors import TABLE
from walnatsd.api.pages import MAX_LIMIT
from walnatsd.broker.dead_letter_stream import DeadLetter
from walnatsd.dashboard import door, words
from walnatsd.dashboard.attention import worries
from walnatsd.dashboard.drawing import draw
from walnatsd.dashboard.finding import EVENTS_ON_MAP, ROWS, Search, actors_part, events_part
from walnatsd.dashboard.forms import Forms
from walnatsd.dashboard.pages import ROOT, STATIC, address, page, static
from walnatsd.dashboard.sessions import OPERATION, Sessions
from walnatsd.model.names import stream_name
from walnatsd.model.number import read_number
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.monitor.watcher import Watcher
from walnatsd.payload.cloudevents import content_type
from walnatsd.servers.http_monitor import show
from walnatsd.servers.office import Office
from walnatsd.servers.operations import number_in_path
from walnatsd.servers.tokens import HAS_ITS_OWN_DOOR, TOKENS

REPLAYING_S = 20.0
"""How long one click replays. What is left then is replayed by the next one."""

_Say = Callable[[web.Request, dict[str, list[str]]], Awaitable[tuple[str, str]]]
"""Carries a form out; gives what to say, and the page to say it on."""


def add_dashboard(app: web.Application, office: Office, access: Access | None) -> None:
    """Add the pages to the application of the administration address; without access, everybody may see them."""
    sessions = Sessions(access, time.monotonic)
    pages = web.Application(middlewares=[door.door(sessions)])
    pages[HAS_ITS_OWN_DOOR] = True
    pages.on_response_prepare.append(door.add_headers)
    _Dashboard(office, sessions).add_to(pages)

    async def enter(_request: web.Request) -> web.Response:
        return web.Response(status=303, headers={"Location": f"{ROOT}/"})

    for path in ("/", ROOT):
        entrance = app.router.add_get(path, enter)
        if TOKENS in app:
            app[TOKENS].note(entrance, "enter-dashboard")
    app.add_subapp(ROOT, pages)


class _Dashboard:
    def __init__(self, office: Office, sessions: Sessions) -> None:
        self._office = office
        self._sessions = sessions
        self._forms = Forms()

    def add_to(self, app: web.Application) -> None:
        actor, letter = "/actors/{event}/{actor}", r"/dead-letters/{sequence}"
        app.router.add_get("/", self.overview)
        app.router.add_get("/map", self.map)
        app.router.add_get("/tail", self.tail)
        app.router.add_get("/tail/feed", self.feed)
        app.router.add_get(actor, self.actor)
        app.router.add_post(f"{actor}/pause", self._form(self.pause))
        app.router.add_post(f"{actor}/resume", self._form(self.resume))
        app.router.add_get("/dead-letters", self.letters)
        app.router.add_post("/dead-letters/replay", self._form(self.replay_many))
        app.router.add_get(letter, self.letter)
        app.router.add_get(f"{letter}/payload", self.payload)
        app.router.add_post(f"{letter}/replay", self._form(self.replay))
        app.router.add_post(f"{letter}/discard", self._form(self.discard))
        app.router.add_get("/static/{name}", self.static)
        app.router.add_get("/login", self.ask_for_token)
        app.router.add_post("/login", self.log_in)
        app.router.add_post("/logout", self.log_out)

    # ---- looking

    async def overview(self, request: web.Request) -> web.Response:
        actors, events = await self._office.overview.actors(), self._office.overview.events()
        found, search = list(worries(actors, events)), Search.of(request)
        worrying = {worry.about for worry in found}
        return self._page(
            request, "overview.html", here="overview",
            search=search, worries=found, has_actors=bool(actors), has_events=bool(events),
            actors=actors_part(search.actors(actors, worrying), request.query.get("actors")),
            events=events_part(search.events(events, worrying), request.query.get("events")),
            at={name: request.query.get(name, "") for name in ("actors", "events")},
        )  # fmt: skip

    async def map(self, request: web.Request) -> web.Response:
        overview, search = self._office.overview, Search.of(request)
        actors = await overview.actors()
        events = search.events(overview.events(), ())
        part = events_part(events, request.query.get("cursor"), limit=EVENTS_ON_MAP)
        drawing = draw(overview.service, part.items, actors)
        return self._page(request, "map.html", here="map", drawing=drawing, part=part, search=search)

    async def actor(self, request: web.Request) -> web.Response:
        event, name = request.match_info["event"], request.match_info["actor"]
        glance = await self._office.overview.actor(event, name)
        found = await self._office.administration.actors([(event, name)])
        if not found:  # it went meanwhile
            raise Refusal(Reason.UNKNOWN_ACTOR, f"this sidecar has no actor {name!r} of {event!r}")
        status = found[0]
        is_paused = status.here.gate == "paused" or bool(status.consumer and status.consumer.paused_for_s)
        state = "missing" if status.consumer is None else "paused" if is_paused else str(status.here.gate)
        return self._page(request, "actor.html", here="", glance=glance, found=status, state=state, is_paused=is_paused)

    async def tail(self, request: web.Request) -> web.Response:
        events = self._office.administration.event_names()
        return self._page(request, "tail.html", here="tail", events=events, chosen=request.query.get("event", ""))

    async def feed(self, request: web.Request) -> web.StreamResponse:
        names = [name for name in request.query.getall("event", []) if name]
        async with self._office.events.monitor(names) as watcher:
            with self._while_allowed(request, watcher):
                return await show(request, watcher, source=self._office.overview.service)

    async def letters(self, request: web.Request) -> web.Response:
        event, actor = _chosen(request.query.get("of", ""))
        cursor, find = request.query.get("cursor") or None, request.query.get("find", "").strip()
        letters, following = await self._office.dead_letters.page(event, actor, limit=ROWS, cursor=cursor, find=find)
        counts = await self._office.overview.dead_letters() or {}
        names = {stream_name(name): name for name in self._office.administration.event_names()}
        choices = [
            (f"{names.get(stream, stream)}/{of}", of, names.get(stream, stream), number)
            for (stream, of), number in sorted(counts.items())
        ]
        chosen = f"{event}/{actor}" if event and actor else ""
        return self._page(
            request, "letters.html", here="letters",
            letters=letters, cursor=following, is_first=cursor is None, find=find, rows=ROWS,
            total=0 if find else sum(number for whose, *_, number in choices if chosen in ("", whose)),
            choices=choices, event=event, actor=actor, chosen=chosen,
        )  # fmt: skip

    async def letter(self, request: web.Request) -> web.Response:
        letter = await self._office.dead_letters.show(_sequence(request))
        text, written = words.payload(letter.message.payload)
        return self._page(
            request, "letter.html", here="",
            letter=letter, message=letter.message, type=content_type(letter.message.headers),
            payload=text, written=written, is_cut=words.is_cut(letter.message.payload),
            attempts=words.attempts_in(letter.history),
            is_complete=bool(letter.history and letter.history.get("complete")),
        )  # fmt: skip

    async def payload(self, request: web.Request) -> web.Response:
        letter = await self._office.dead_letters.show(_sequence(request))
        return web.Response(
            body=letter.message.payload,
            content_type="application/octet-stream",  # whatever it says it is: no browser shall show it
            headers={
                "Content-Disposition": f'attachment; filename="dead-letter-{letter.sequence}.bin"',
                "Content-Security-Policy": "sandbox; default-src 'none'",
            },
        )

    async def static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in STATIC:
            raise Refusal(Reason.UNKNOWN_PATH, f"there is no file {name[:100]!r}")
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=static(name), content_type=STATIC[name], charset="utf-8", headers=headers)

    # ---- logging in

    async def ask_for_token(self, request: web.Request) -> web.Response:
        return self._login(request, request.query.get("to", ""), "")

    async def log_in(self, request: web.Request) -> web.Response:
        fields = await self._forms.read(request)
        to = fields.get("to", [""])[0]
        path = quote(to, safe="/?=&%+") if to.startswith(f"{ROOT}/") else f"{ROOT}/"
        answer = web.Response(status=303, headers={"Location": path})
        try:
            self._sessions.begin(request, answer, fields.get("token", [""])[0])
        except Refusal as refusal:
            return self._login(request, to, refusal.message, status=TABLE[refusal.reason].http)
        return answer

    async def log_out(self, request: web.Request) -> web.Response:
        await self._forms.read(request)
        answer = web.Response(status=303, headers={"Location": address("login")})
        self._sessions.end(request, answer)
        return answer

    def _login(self, request: web.Request, to: str, wrong: str, *, status: int = 200) -> web.Response:
        visitor = self._forms.visitor(request)
        answer = page("login.html", status=status, form_token=self._forms.token(visitor), to=to, wrong=wrong)
        self._forms.remember(request, answer, visitor)
        return answer

    def _while_allowed(self, request: web.Request, watcher: Watcher) -> contextlib.AbstractContextManager[None]:
        access = self._sessions.access
        if access is None:
            return contextlib.nullcontext()
        return access.holding(self._sessions.authorization(request), needed_for(OPERATION), watcher.end)

    # ---- doing

    async def pause(self, request: web.Request, _fields: dict[str, list[str]]) -> tuple[str, str]:
        event, actor = request.match_info["event"], request.match_info["actor"]
        everywhere = await self._office.administration.pause(event, actor, None)
        return f"{actor} is paused{_where(everywhere)}; its messages are kept.", address("actors", event, actor)

    async def resume(self, request: web.Request, _fields: dict[str, list[str]]) -> tuple[str, str]:
        event, actor = request.match_info["event"], request.match_info["actor"]
        everywhere = await self._office.administration.resume(event, actor)
        return f"{actor} goes on{_where(everywhere)}.", address("actors", event, actor)

    async def replay(self, request: web.Request, _fields: dict[str, list[str]]) -> tuple[str, str]:
        letter = await self._office.dead_letters.replay(_sequence(request))
        return f"Dead letter {letter.sequence} was handed to {_whose(letter)} again.", _letters_of(
            letter.message.event, letter.actor
        )

    async def discard(self, request: web.Request, fields: dict[str, list[str]]) -> tuple[str, str]:
        sequence = _sequence(request)
        if fields.get("sure") != ["yes"]:
            raise Refusal(Reason.INVALID_REQUEST, "say that you are sure: what is discarded is gone for good")
        letter = await self._office.dead_letters.show(sequence)
        await self._office.dead_letters.discard(sequence)
        return f"Dead letter {sequence} was discarded.", _letters_of(letter.message.event, letter.actor)

    async def replay_many(self, _request: web.Request, fields: dict[str, list[str]]) -> tuple[str, str]:
        chosen = fields.get("of", [""])[0]
        back = _letters_of(*_chosen(chosen), find=fields.get("find", [""])[0])
        if "all" in fields:
            return await self._replay_all(*_chosen(chosen)), back
        return await self._replay_these(fields.get("sequence", [])), back

    async def _replay_these(self, numbers: Sequence[str]) -> str:
        if not numbers:
            raise Refusal(Reason.INVALID_REQUEST, "choose at least one dead letter to replay")
        if len(numbers) > MAX_LIMIT:
            raise Refusal(Reason.INVALID_REQUEST, f"choose at most {MAX_LIMIT} dead letters at once")
        sequences = [_number(text) for text in numbers]  # all of them are looked at before anything is done
        replayed, failures = 0, []
        for sequence in sequences:
            try:
                await self._office.dead_letters.replay(sequence)
                replayed += 1
            except Refusal as refusal:
                failures.append(f"{sequence}: {refusal.message}")
        return _replayed(replayed, failures)

    async def _replay_all(self, event: str | None, actor: str | None) -> str:
        if event is None or actor is None:
            raise Refusal(Reason.INVALID_REQUEST, "choose the actor whose dead letters are to be replayed")
        replayed, failures, cursor = 0, [], None
        end = time.monotonic() + REPLAYING_S
        while True:
            replays = await self._office.dead_letters.replay_many(event, actor, limit=50, cursor=cursor)
            replayed += replays.replayed
            failures += [f"{sequence}: {why}" for sequence, why in replays.failures]
            cursor = replays.next_cursor
            if cursor is None:
                return _replayed(replayed, failures)
            if time.monotonic() > end:
                return f"{_replayed(replayed, failures)} There are more; replay all once more."

    # ---- how

    def _page(self, request: web.Request, template: str, **values: Any) -> web.Response:
        visitor = self._forms.visitor(request)
        # a page that refreshes itself in another tab must not take the word that was left for this one
        answer = page(
            template, service=self._office.overview.service, problems=self._office.overview.problems,
            is_logged_in=self._sessions.access is not None,
            form_token=self._forms.token(visitor), note=self._forms.said(visitor) if door.is_page(request) else "", **values,
        )  # fmt: skip
        self._forms.remember(request, answer, visitor)
        return answer

    def _form(self, carry_out: _Say) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            fields = await self._forms.read(request)
            note, back = await carry_out(request, fields)
            self._forms.say(self._forms.visitor(request), note)
            return web.Response(status=303, headers={"Location": back})

        return handle


def _sequence(request: web.Request) -> int:
    return number_in_path(request, "sequence", "a dead letter")


def _number(text: str) -> int:
    number = read_number(text)
    if number is None:
        raise Refusal(Reason.INVALID_REQUEST, f"a dead letter is named by its number, not {text[:50]!r}")
    return number


def _chosen(of: str) -> tuple[str | None, str | None]:
    """Read `event/actor`."""
    event, _, actor = of.partition("/")
    return (event, actor) if event and actor else (None, None)


def _where(everywhere: bool) -> str:
    return "" if everywhere else " in this sidecar only (nats-server 2.11 could do it for all)"


def _whose(letter: DeadLetter) -> str:
    return f"{letter.actor} of {letter.message.event}"


def _letters_of(event: str | None, actor: str | None, find: str = "") -> str:
    """Give the page of an actor's dead letters; of all, where none is given. The names may be anybody's."""
    return address("dead-letters", of=f"{event}/{actor}" if event and actor else "", find=find)


def _replayed(replayed: int, failures: list[str]) -> str:
    said = f"{replayed} {'dead letter was' if replayed == 1 else 'dead letters were'} replayed."
    if failures:
        said += f" {len(failures)} could not be: {'; '.join(failures[:5])}{' …' if len(failures) > 5 else ''}."
    return said
