"""The dashboard of a large service: pages of events, actors, boxes and dead letters, and finding one among them."""

import re
from collections.abc import AsyncIterator

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from support.browser import browser
from support.buried import bury, config, letters, refuse
from support.daemon import Sidecar, config_text, running
from support.receiver import ok
from support.waiting import until
from walnatsd.api import dead_letters
from walnatsd.dashboard.finding import EVENTS_ON_MAP, ROWS

EVENTS = 60
NAMES = {f"event-{event:02d}": [f"ship-{event:02d}", f"bill-{event:02d}"] for event in range(EVENTS)}
ACTORS = [f"{actor} of {event}" for event, actors in NAMES.items() for actor in sorted(actors)]


def large(nats) -> str:
    """More events than a table shows, and more actors; nobody is there for them."""
    actors = [
        {"name": actor, "event": event, "url": "http://127.0.0.1:9/"} for event in NAMES for actor in NAMES[event]
    ]
    limits = {"bytes": "64KiB"}
    return config_text(nats.url, events=[{"name": event, "limits": limits} for event in NAMES], actors=actors)


@pytest.fixture
async def sidecar(nats) -> AsyncIterator[Sidecar]:
    async with running(large(nats)) as started:
        yield started


async def text_of(sidecar: Sidecar, path: str) -> str:
    async with sidecar.session.get(f"http://{sidecar.admin}/dashboard/{path}") as response:
        assert response.status == 200
        return await response.text()


def actors_in(text: str) -> list[str]:
    return [f"{actor} of {event}" for event, actor in re.findall(r'data-row="([\w-]+)/([\w-]+)"', text)]


def events_in(text: str) -> list[str]:
    return re.findall(r'data-row="([\w-]+)"', text)


def following(text: str, what: str) -> str | None:
    """Where the link to the next page of a table leads, below the dashboard."""
    found = re.search(rf'href="/dashboard/([^"]*)">Next page of {what}<', text)
    return found[1].replace("&amp;", "&") if found else None


async def test_all_actors_and_all_events_are_on_pages_of_which_each_is_short(sidecar) -> None:
    text, seen, pages = await text_of(sidecar, ""), [], 0
    assert events_in(text) == list(NAMES)[:ROWS]
    while True:
        pages += 1
        on_page = actors_in(text)
        assert len(on_page) <= ROWS
        seen += on_page
        assert f"of {len(ACTORS)} are on this page" in text
        assert events_in(text) == list(NAMES)[:ROWS], "turning one table leaves the other where it is"
        link = following(text, "actors")
        if link is None:
            break
        text = await text_of(sidecar, link)
    assert seen == ACTORS
    assert pages == 3
    text = await text_of(sidecar, following(text, "events") or "")
    assert events_in(text) == list(NAMES)[ROWS:]
    assert actors_in(text) == ACTORS[2 * ROWS :]


async def test_a_part_of_a_name_finds_actors_and_events_of_either_name(sidecar) -> None:
    text = await text_of(sidecar, "?find=SHIP-07")
    assert actors_in(text) == ["ship-07 of event-07"]
    assert events_in(text) == ["event-07"]
    text = await text_of(sidecar, "?find=event-07")
    assert actors_in(text) == ["bill-07 of event-07", "ship-07 of event-07"]
    text = await text_of(sidecar, "?find=bill")  # more than a page: the search goes with the links
    text = await text_of(sidecar, following(text, "actors") or "")
    assert actors_in(text) == [f"bill-{number} of event-{number}" for number in range(ROWS, EVENTS)]
    text = await text_of(sidecar, "?find=%3Cscript%3E")
    assert text.count("None is meant by this.") == 2
    assert "<script>" not in text


async def test_only_what_needs_attention_is_shown_when_asked_for(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver, "print", "file")) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: len(receiver.received) == 2)
        async with sidecar.session.post(f"http://{sidecar.admin}/admin/v1/actors/counts/file/pause") as response:
            assert response.status == 200

        async def both_are_meant() -> bool:
            return actors_in(await text_of(sidecar, "?trouble=yes")) == ["file of counts", "print of counts"]

        await until(both_are_meant)
        assert events_in(await text_of(sidecar, "?trouble=yes")) == []
        assert actors_in(await text_of(sidecar, "?trouble=yes&find=prin")) == ["print of counts"]


async def test_the_list_of_what_needs_attention_stays_short_and_leads_to_the_rest(sidecar) -> None:
    for event, [actor, _] in list(NAMES.items())[:25]:
        url = f"http://{sidecar.admin}/admin/v1/actors/{event}/{actor}/pause"
        async with sidecar.session.post(url) as response:
            assert response.status == 200

    async def the_rest() -> tuple[str, str] | None:
        text = await text_of(sidecar, "")
        assert text.count("stands still: paused") <= 20
        return next(iter(re.findall(r'And (\d+) more: <a href="/dashboard/([^"]+)"', text)), None)

    async def is_all_seen() -> bool:
        rest = await the_rest()
        return rest is not None and rest[0] == "5" and len(actors_in(await text_of(sidecar, rest[1]))) == 25

    await until(is_all_seen)


async def test_the_map_is_drawn_in_pages_of_events_with_all_their_actors(sidecar) -> None:
    text, seen = await text_of(sidecar, "map"), []
    while True:
        boxes = re.findall(r"<title>([\w-]+)</title>", text)
        events = [name for name in boxes if name.startswith("event-")]
        assert len(events) <= EVENTS_ON_MAP
        assert {actor for event in events for actor in NAMES[event]} <= set(boxes)
        seen += events
        link = following(text, "the map")
        if link is None:
            break
        text = await text_of(sidecar, link)
    assert seen == list(NAMES)
    boxes = re.findall(r"<title>([\w-]+)</title>", await text_of(sidecar, "map?find=ship-41"))
    assert boxes == ["event-41", "bill-41", "ship-41"]


@pytest.mark.parametrize("path", ["?actors=x", "?events=%00", "?actors=WzFd", "map?cursor=x"])
async def test_a_cursor_that_is_none_is_refused_in_words(sidecar, path) -> None:
    async with sidecar.session.get(f"http://{sidecar.admin}/dashboard/{path}") as response:
        assert response.status == 400
        assert "the cursor is none that this daemon gave" in await response.text()


async def test_a_text_finds_dead_letters_by_uid_reason_and_payload(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        buried = await bury(sidecar, [f'{{"order": "o-{number}"}}' for number in range(12)])
        by_uid = {letter["uid"]: str(letter["sequence"]) for letter in buried}

        async def found(text: str) -> list[str]:
            return re.findall(r"Choose dead letter (\d+)", await text_of(sidecar, f"dead-letters?find={text}"))

        assert await found("UID-3") == [by_uid["uid-3"]]
        assert await found("o-7") == [by_uid["uid-7"]]
        assert len(await found("no such parcel")) == 12
        assert await found("nothing of the kind") == []
        assert "None has this text." in await text_of(sidecar, "dead-letters?find=x&of=counts/print")


async def test_a_long_search_is_cut_into_pages_and_none_is_missed(nats, receiver, monkeypatch) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        buried = await bury(sidecar, ["nail" if number in (5, 11) else "hay" for number in range(14)])
        monkeypatch.setattr(dead_letters, "MAX_LOOKED_AT", 5)
        path: str | None = "dead-letters?find=nail&of=counts/print"
        seen, cut = [], []
        while path is not None:
            text = await text_of(sidecar, path)
            seen += re.findall(r"Choose dead letter (\d+)", text)
            cut.append("Not all have been looked through yet" in text)
            assert "There are no" not in text or not cut[-1]
            assert "Replay all of" not in text, "all is more than was found"
            path = following(text, "dead letters")
        assert cut == [True, True, False]
        assert seen == [str(letter["sequence"]) for letter in buried if letter["uid"] in ("uid-5", "uid-11")]


async def at(page: Page, sidecar: Sidecar, path: str = "") -> None:
    await page.goto(f"http://{sidecar.admin}/dashboard/{path}")


@pytest.mark.needs_program("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_actor_among_many_is_found_with_keys_and_the_page_stays_accessible(sidecar, scheme) -> None:
    async with browser(color_scheme=scheme) as context:
        page = await context.new_page()
        await at(page, sidecar)
        await expect(page.get_by_role("navigation", name="Pages of actors")).to_be_visible()
        await page.get_by_role("searchbox", name="Event or actor").focus()
        await page.keyboard.type("ship-42")
        await page.keyboard.press("Enter")
        rows = page.get_by_role("region", name="Actors").get_by_role("rowheader")
        await expect(rows).to_have_text(["ship-42"])
        for path in ("", "?find=ship-42", "?find=nothing", "map", "map?find=ship-42", "dead-letters?find=x"):
            await at(page, sidecar, path)
            found = await Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"


@pytest.mark.needs_program("chromium")
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without"])
async def test_hundreds_of_dead_letters_are_turned_through_found_and_replayed(nats, receiver, script) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar, browser(java_script_enabled=script) as context:
        await bury(sidecar, [f'"order {number}"' for number in range(ROWS + 20)])
        receiver.answer = ok
        page = await context.new_page()
        await at(page, sidecar, "dead-letters?of=counts/print")
        boxes = page.get_by_role("checkbox", name=re.compile("Choose dead letter"))
        await expect(page.get_by_role("caption")).to_contain_text(f"{ROWS} of {ROWS + 20} are on this page.")
        await expect(boxes).to_have_count(ROWS)
        await page.get_by_role("link", name="Next page of dead letters").click()
        await expect(boxes).to_have_count(20)
        await page.get_by_label("With the text").fill("order 1")
        await page.get_by_role("button", name="Show").click()
        await expect(boxes).to_have_count(11)  # 1 and 10 to 19
        everything = page.get_by_role("checkbox", name="Choose all on this page")
        if script:
            await everything.check()
            await boxes.first.uncheck()
            await expect(everything).not_to_be_checked()
            await boxes.first.check()
            await expect(everything).to_be_checked()
        else:
            await expect(everything).to_have_count(0)
            for box in await boxes.all():
                await box.check()
        await page.get_by_role("button", name="Replay the chosen ones").click()
        await expect(page.get_by_role("status").first).to_have_text("11 dead letters were replayed.")
        await expect(page.get_by_role("main")).to_contain_text("None has this text.")
        assert len(await letters(sidecar, limit=500)) == ROWS + 9
        await until(lambda: sum(body.startswith(b'"order 1') for body in receiver.bodies[ROWS + 20 :]) == 11)
