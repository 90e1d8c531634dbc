"""The dashboard in a real browser: what an operator does with it, with the mouse, with keys alone, and without JavaScript."""

import pytest
from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from support.browser import browser, picture
from support.buried import bury, letters, refuse
from support.daemon import Sidecar, config_text, running
from support.receiver import Received, ok
from support.waiting import until

pytestmark = pytest.mark.needs_program("chromium")

HOSTILE = '<img src="https://evil.example/" onerror="alert(1)"><script>alert(2)</script>\u202egnp.exe'


def shop(nats, receiver) -> str:
    """A service with an actor that works and one that refuses all it gets."""
    return config_text(
        nats.url,
        service={"name": "shop"},
        events=[{"name": "counts", "description": "Something was counted."}, {"name": "parcel-sent"}],
        actors=[
            {"name": "print", "event": "counts", "url": receiver.url, "description": "Prints labels."},
            {"name": "notify", "event": "parcel-sent", "url": receiver.url},
        ],
        dead_letters={"pause_actor_after": 1000},
    )


async def at(page: Page, sidecar: Sidecar, path: str = "") -> None:
    await page.goto(f"http://{sidecar.admin}/dashboard/{path}")


async def settled(sidecar: Sidecar, count: int) -> None:
    async def are_so_many() -> bool:
        return len(await letters(sidecar)) == count

    await until(are_so_many)


async def test_an_operator_finds_why_an_actor_fails_mends_it_and_replays(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(shop(nats, receiver)) as sidecar, browser() as context:
        await bury(sidecar, ['{"order": 1}', '{"order": 2}', '{"order": 3}'])
        page = await context.new_page()
        await page.goto(f"http://{sidecar.admin}/")  # the address alone leads there

        attention = page.get_by_role("region", name="Needs attention")
        await expect(attention).to_contain_text(
            "3 of 3 attempts of the last minute failed; the last one: 422: no such parcel"
        )
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="print"))
        await expect(row).to_contain_text("422: no such parcel")
        await expect(row).to_contain_text("100 %")
        await picture(page, "overview")

        await row.get_by_role("link", name="print").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("print of counts")
        await expect(page.get_by_role("region", name="State")).to_contain_text("422: no such parcel")
        await picture(page, "actor")

        await page.get_by_role("region", name="Numbers").get_by_role("link", name="3").click()
        await picture(page, "dead-letters")
        await page.get_by_role("link", name="1", exact=True).click()
        await expect(page.get_by_label("Payload", exact=True).last).to_have_text('{"order": 1}')
        await expect(page.get_by_role("region", name="Attempts")).to_contain_text("no such parcel")
        await expect(page.get_by_role("region", name="Headers")).to_contain_text("ce-subject")
        await picture(page, "dead-letter")

        receiver.answer = ok  # mended
        await page.get_by_role("button", name="Replay to print").click()
        await expect(page.get_by_role("status").first).to_have_text(
            "Dead letter 1 was handed to print of counts again."
        )
        await settled(sidecar, 2)
        await page.get_by_label("Choose dead letter 2").check()
        await page.get_by_role("button", name="Replay the chosen ones").click()
        await expect(page.get_by_role("status").first).to_have_text("1 dead letter was replayed.")
        await page.get_by_role("button", name="Replay all of print").click()
        await expect(page.get_by_role("main")).to_contain_text("1 dead letter was replayed.")
        await expect(page.get_by_role("main")).to_contain_text("There are none.")
        await until(lambda: receiver.bodies[3:] == [b'{"order": 1}', b'{"order": 2}', b'{"order": 3}'])


async def test_an_actor_is_paused_and_goes_on(nats, receiver) -> None:
    async with running(shop(nats, receiver)) as sidecar, browser() as context:
        page = await context.new_page()
        await at(page, sidecar, "actors/counts/print")
        await page.get_by_role("button", name="Pause print").click()
        await expect(page.get_by_role("main")).to_contain_text("print is paused; its messages are kept.")
        await expect(page.get_by_role("region", name="State")).to_contain_text("paused")
        await sidecar.emit("counts", "7")
        # the numbers come by themselves
        pending = page.get_by_role("row").filter(has_text="Never handed over")
        await expect(pending).to_contain_text("1")
        assert receiver.received == []
        await page.get_by_role("button", name="Resume print").click()
        await expect(page.get_by_role("main")).to_contain_text("print goes on.")
        assert (await receiver.wait_for(1))[0].body == b"7"


async def test_the_live_tail_shows_what_is_emitted_as_text(nats, receiver) -> None:
    async with running(shop(nats, receiver)) as sidecar, browser() as context:
        page = await context.new_page()
        await at(page, sidecar, "tail?event=counts")
        await expect(page.locator("#tail-state")).to_have_text("Watching.")
        await sidecar.emit("parcel-sent", '"not watched"')
        await sidecar.emit("counts", '{"parcel": 7}', uid="u-7")
        await expect(page.get_by_role("row").filter(has_text="u-7")).to_contain_text('{"parcel":7}')
        await sidecar.emit("counts", HOSTILE, uid="u-8", headers={"Content-Type": "text/html"})
        await expect(page.get_by_role("row").filter(has_text="u-8")).to_contain_text(
            "<script>alert(2)</script>\\u{202e}"
        )
        await expect(page.locator("#tail tbody tr")).to_have_count(2)
        await picture(page, "tail")


async def test_hostile_payloads_headers_and_answers_stay_text(nats, receiver) -> None:
    async def hostile(_received: Received) -> web.StreamResponse:
        return web.Response(status=422, text=HOSTILE)

    receiver.answer = hostile
    async with running(shop(nats, receiver)) as sidecar, browser() as context:
        await sidecar.emit(
            "counts", HOSTILE, uid="<b>u</b>", headers={"walnats-header-x-bad": "<script>alert(3)</script>"}
        )
        await settled(sidecar, 1)
        page = await context.new_page()
        for path in ("", "actors/counts/print", "dead-letters", "dead-letters/1", "map"):
            await at(page, sidecar, path)
            assert await page.locator("main img, main script, main b").count() == 0, path
        await at(page, sidecar, "dead-letters/1")
        await expect(page.locator("pre").last).to_have_text(HOSTILE.replace("\u202e", "\\u202e"))
        await expect(page.get_by_role("region", name="Headers")).to_contain_text("<script>alert(3)</script>")


async def test_the_map_shows_who_emits_and_who_acts_and_leads_to_actors(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(shop(nats, receiver)) as sidecar, browser() as context:
        await bury(sidecar, ["1"])
        page = await context.new_page()
        await at(page, sidecar, "map")
        drawing = page.locator("svg.map")
        for name in ("shop", "other services", "counts", "parcel-sent", "print", "notify"):
            await expect(drawing.locator("text", has_text=name).first).to_be_visible()
        await expect(drawing.locator("rect.trouble")).to_have_count(1)
        await picture(page, "map")
        await drawing.get_by_role("link", name="actor print, open").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("print of counts")


async def test_keys_alone_do_for_a_replay(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(shop(nats, receiver)) as sidecar, browser() as context:
        await bury(sidecar, ["1"])
        receiver.answer = ok
        page = await context.new_page()
        await at(page, sidecar)

        async def tab_to(text: str) -> None:
            for _ in range(40):
                await page.keyboard.press("Tab")
                focused = page.locator(":focus")
                outline = await focused.evaluate("e => getComputedStyle(e).outlineStyle")
                assert outline != "none", "what has the focus must be seen to have it"
                if text in (await focused.inner_text() or await focused.get_attribute("aria-label") or ""):
                    return
            raise AssertionError(f"the Tab key never leads to {text}")

        await page.keyboard.press("Tab")
        await expect(page.locator(":focus")).to_have_text("Skip to the content")
        await tab_to("Dead letters")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
        await tab_to("Choose dead letter 1")
        await page.keyboard.press("Space")
        await tab_to("Replay the chosen ones")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main")).to_contain_text("1 dead letter was replayed.")


async def test_what_matters_works_without_javascript(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(shop(nats, receiver)) as sidecar, browser(java_script_enabled=False) as context:
        await bury(sidecar, ["1", "2"])
        receiver.answer = ok
        page = await context.new_page()
        await at(page, sidecar)
        await expect(page.get_by_role("main")).to_contain_text("Load the page again to see new numbers.")
        await page.get_by_role("link", name="print", exact=True).click()
        await page.get_by_role("button", name="Pause print").click()
        await page.get_by_role("button", name="Resume print").click()
        await page.get_by_role("link", name="Dead letters").first.click()
        await page.get_by_label("Actor").select_option("counts/print")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("button", name="Replay all of print").click()
        await expect(page.get_by_role("main")).to_contain_text("2 dead letters were replayed.")
        await at(page, sidecar, "tail")
        await expect(page.get_by_role("main")).to_contain_text("walnatsd tail EVENT")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_in_light_and_dark(nats, receiver, scheme) -> None:
    """Landmarks, names, headings, tables and contrast, as axe-core checks them."""
    receiver.answer = refuse
    async with running(shop(nats, receiver)) as sidecar, browser(color_scheme=scheme) as context:
        await bury(sidecar, ["1"])
        page = await context.new_page()
        grounds = set()
        for path in (
            "",
            "actors/counts/print",
            "dead-letters?of=counts/print",
            "dead-letters/1",
            "tail",
            "map",
            "nothing",
        ):
            await at(page, sidecar, path)
            found = await Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
            grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
            if (path, scheme) == ("", "dark"):
                await picture(page, "overview-dark")
        assert grounds == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 22, 26)"}


async def test_numbers_come_by_themselves_until_somebody_stops_them(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(shop(nats, receiver)) as sidecar, browser() as context:
        page = await context.new_page()
        await at(page, sidecar)
        link = page.get_by_role("link", name="print", exact=True)
        await link.focus()
        await bury(sidecar, ["1"])
        await expect(page.get_by_role("row").filter(has=link)).to_contain_text("422: no such parcel")
        await expect(link).to_be_focused()  # who is there with the keyboard stays there
        await page.get_by_role("button", name="Stop refreshing").click()
        await expect(page.get_by_role("button", name="Refresh every 5 seconds")).to_be_visible()


async def test_a_page_says_when_the_daemon_does_not_answer_any_more(nats, receiver) -> None:
    async with browser() as context:
        page = await context.new_page()
        async with running(shop(nats, receiver)) as sidecar:
            await at(page, sidecar)
        await expect(page.locator("#freshness")).to_contain_text("The daemon does not answer since")
