"""The dashboard where tokens are configured: nobody sees anything before showing one that has the scope admin."""

import re
import signal
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect
from yarl import URL

from support.access import bearer, guarded_text, token_of
from support.browser import browser
from support.certificates import Authority
from support.daemon import Sidecar, process, running
from support.waiting import until

PAGES = (
    "",
    "map",
    "tail",
    "dead-letters",
    "dead-letters/1",
    "dead-letters/1/payload",
    "actors/counts/print",
    "nothing",
)


def browsing(sidecar: Sidecar) -> aiohttp.ClientSession:
    """Somebody with cookies of their own; the jar takes them from addresses too."""
    return aiohttp.ClientSession(
        f"http://{sidecar.admin}/dashboard/",
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        headers={"Origin": f"http://{sidecar.admin}"},
    )


def replace_token(folder: Path) -> None:
    """Take the administrators' token away."""
    (folder / "admin").write_text("another-token-of-admin")


async def log_in(session: aiohttp.ClientSession, token: str, to: str = "") -> tuple[int, str, str]:
    """Send the form; give the status, where it leads, and the page."""
    async with session.get("login") as response:
        [form_token] = set(re.findall(r'name="form_token" value="(\w+)"', await response.text()))
    fields = {"form_token": form_token, "token": token, "to": to}
    async with session.post("login", data=fields, allow_redirects=False) as response:
        return response.status, response.headers.get("Location", ""), await response.text()


@pytest.fixture
def guarded(nats, tmp_path) -> tuple[str, str]:
    """A config with tokens, and its file."""
    return guarded_text(nats.url, tmp_path), str(tmp_path / "walnatsd.yaml")


async def test_without_a_session_every_page_leads_to_the_login_and_no_form_does_anything(guarded) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        for path in PAGES:
            async with session.get(path, allow_redirects=False) as response:
                assert response.status == 303, path
                assert response.headers["Location"].startswith("/dashboard/login?to=%2Fdashboard%2F")
        for path in (
            "actors/counts/print/pause",
            "dead-letters/1/replay",
            "dead-letters/1/discard",
            "dead-letters/replay",
            "logout",
        ):
            async with session.post(path, data={}) as response:
                assert response.status == 401, path
        async with session.get("tail/feed", headers={"Sec-Fetch-Mode": "cors"}) as response:
            assert response.status == 401


async def test_a_token_of_an_administrator_opens_and_is_not_in_the_cookie(guarded) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        assert (await log_in(session, token_of("admin"), "/dashboard/map"))[:2] == (303, "/dashboard/map")
        cookies = {cookie.key: cookie for cookie in session.cookie_jar}
        cookie = cookies[f"walnatsd-session-{sidecar.admin.rpartition(':')[2]}"]
        assert token_of("admin") not in cookie.value
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/dashboard")
        async with session.get("") as response:
            assert "Log out" in await response.text()


@pytest.mark.parametrize(("token", "status", "said"), [("wrong", 401, "not one of"), (token_of("emit"), 403, "lacks the scope admin"), ("", 401, "not one of")])  # fmt: skip
async def test_another_token_opens_nothing_and_is_not_shown_again(guarded, token, status, said) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        got, _, page = await log_in(session, token)
        assert got == status
        assert said in page
        assert f'"{token}"' not in page or not token
        async with session.get("", allow_redirects=False) as response:
            assert response.status == 303


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/admin/v1/reload"]
)
async def test_a_login_leads_nowhere_but_to_the_dashboard(guarded, to) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        assert (await log_in(session, token_of("admin"), to))[:2] == (303, "/dashboard/")


async def test_a_login_leads_to_what_was_looked_for(guarded) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        async with session.get(URL("?find=two+words%2F%26&actors=x", encoded=True), allow_redirects=False) as response:
            to = URL(response.headers["Location"]).query["to"]
        assert (await log_in(session, token_of("admin"), to))[:2] == (
            303,
            "/dashboard/?find=two+words%2F%26&actors=x",
        )


async def test_a_line_break_in_where_to_go_makes_no_header(guarded) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        status, to, _ = await log_in(session, token_of("admin"), "/dashboard/\r\nSet-Cookie: a=b")
        assert (status, to) == (303, "/dashboard/%0D%0ASet-Cookie%3A%20a=b")


async def test_a_login_form_of_another_site_begins_no_session(guarded) -> None:
    text, file = guarded
    async with (
        running(text, file=file) as sidecar,
        browsing(sidecar) as session,
        session.post("login", data={"token": token_of("admin")}) as response,
    ):
        assert response.status == 403


async def test_after_logging_out_the_session_is_over_for_who_kept_the_cookie_too(guarded) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        await log_in(session, token_of("admin"))
        kept = {cookie.key: cookie.value for cookie in session.cookie_jar}
        async with session.get("") as response:
            [form_token] = set(re.findall(r'name="form_token" value="(\w+)"', await response.text()))
        async with session.post("logout", data={"form_token": form_token}) as response:
            assert response.url.path == "/dashboard/login"
        session.cookie_jar.clear()
        async with session.get("", cookies=kept, allow_redirects=False) as response:
            assert response.status == 303


async def test_programs_send_the_header_instead(guarded) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browsing(sidecar) as session:
        async with session.get("", headers=bearer(token_of("admin")), allow_redirects=False) as response:
            assert response.status == 200
        async with session.get("", headers=bearer(token_of("act")), allow_redirects=False) as response:
            assert response.status == 403


async def test_a_token_that_a_reload_takes_away_ends_its_sessions_and_feeds(nats, tmp_path) -> None:
    async with process(tmp_path, guarded_text(nats.url, tmp_path)) as daemon:
        sidecar = daemon.sidecar
        assert sidecar is not None
        async with browsing(sidecar) as session:
            await log_in(session, token_of("admin"))
            async with session.get("tail/feed") as feed:
                assert feed.status == 200
                replace_token(tmp_path)
                daemon.send_signal(signal.SIGHUP)
                assert '"reason":"TOKEN"' in (await feed.content.read()).decode()

            async def is_out() -> bool:
                async with session.get("", allow_redirects=False) as response:
                    return response.status == 303

            await until(is_out)


async def test_over_tls_the_cookies_never_go_without_it(nats, tmp_path) -> None:
    authority = Authority(tmp_path)
    tls = {"tls": authority.pair("server").options()}
    async with running(guarded_text(nats.url, tmp_path, admin=tls), file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        address = f"https://{sidecar.admin}"
        connector = aiohttp.TCPConnector(ssl=authority.client())
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(
            f"{address}/dashboard/", connector=connector, cookie_jar=jar, headers={"Origin": address}
        ) as session:
            assert (await log_in(session, token_of("admin")))[0] == 303
            assert len(jar) == 2
            assert all(cookie["secure"] for cookie in jar)
            async with session.get("", allow_redirects=False) as response:
                assert response.status == 200


@pytest.mark.needs_program("chromium")
async def test_an_operator_logs_in_arrives_where_the_link_led_and_logs_out(guarded) -> None:
    text, file = guarded
    async with running(text, file=file) as sidecar, browser() as context:
        page = await context.new_page()
        await page.goto(f"http://{sidecar.admin}/dashboard/tail?event=counts")
        await page.get_by_label("Token").fill("nonsense")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not one of auth.tokens")
        await page.get_by_label("Token").fill(token_of("admin"))
        await page.get_by_role("button", name="Log in").click()
        await expect(page).to_have_url(f"http://{sidecar.admin}/dashboard/tail?event=counts")
        await expect(page.locator("#tail-state")).to_have_text("Watching.")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
