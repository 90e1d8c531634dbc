"""The dashboard over HTTP: who may use it, what its answers tell the browser, what hostile requests come to."""

import re
from collections.abc import AsyncIterator

import pytest

from support.buried import bury, config, letters, refuse
from support.daemon import Sidecar, config_text, running
from support.nats_server import free_port
from support.waiting import until


async def get(sidecar: Sidecar, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    url = f"http://{sidecar.admin}{path}"
    async with sidecar.session.get(url, headers=headers, allow_redirects=False) as response:
        return response.status, await response.text(), dict(response.headers)


async def post(sidecar: Sidecar, path: str, fields: dict[str, str], **headers: str) -> tuple[int, str]:
    url = f"http://{sidecar.admin}{path}"
    async with sidecar.session.post(url, data=fields, headers=headers, allow_redirects=False) as response:
        return response.status, await response.text()


async def form(sidecar: Sidecar, path: str = "/dashboard/dead-letters") -> tuple[str, str]:
    """The token of a page's forms, and the cookie that came with it."""
    _, text, headers = await get(sidecar, path)
    [token] = set(re.findall(r'name="form_token" value="(\w+)"', text))
    return token, headers["Set-Cookie"].partition(";")[0]


REPLAY = "/dashboard/dead-letters/1/replay"


@pytest.fixture
async def sidecar(nats, receiver) -> AsyncIterator[Sidecar]:
    """A daemon with a dead letter, and no cookies of its own."""
    receiver.answer = refuse
    async with running(config(nats, receiver)) as started:
        await bury(started, ["1"])
        yield started


async def test_the_administration_address_leads_to_the_dashboard(sidecar) -> None:
    for path in ("/", "/dashboard"):
        status, _, headers = await get(sidecar, path)
        assert (status, headers["Location"]) == (303, "/dashboard/")


async def test_every_answer_forbids_what_is_not_ours(sidecar) -> None:
    paths = (
        "/dashboard/",
        "/dashboard/map",
        "/dashboard/nothing",
        "/dashboard/static/dashboard.js",
        "/dashboard/tail/feed?event=x",
    )
    for path in paths:
        _, _, headers = await get(sidecar, path)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';"), path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


async def test_no_page_has_scripts_or_styles_in_it(sidecar) -> None:
    for path in ("", "map", "tail", "dead-letters", "dead-letters/1", "actors/counts/print"):
        status, text, _ = await get(sidecar, f"/dashboard/{path}")
        assert status == 200
        assert re.findall(r"<script(?! src)|<style|\son\w+=|\sstyle=|javascript:|=\"https?://", text) == []


async def test_a_form_that_our_page_did_not_give_does_nothing(sidecar) -> None:
    token, cookie = await form(sidecar)
    sidecar.session.cookie_jar.clear()
    for fields, headers in [
        ({}, {}),
        ({"form_token": token}, {}),  # another browser's
        ({"form_token": "0" * 64}, {"Cookie": cookie}),
        ({"form_token": "\u00e9"}, {"Cookie": cookie}),
        ({"form_token": token}, {"Cookie": cookie.partition("=")[0] + "=chosen-by-an-attacker"}),
    ]:
        status, text = await post(sidecar, REPLAY, fields, **headers)
        assert status == 403, fields
        assert "nothing was done" in text
        sidecar.session.cookie_jar.clear()
    assert len(await letters(sidecar)) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:8000"},  # another port of this machine, which the address itself would let in
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
async def test_a_page_of_another_origin_can_send_no_form_even_with_a_token(sidecar, headers) -> None:
    token, cookie = await form(sidecar)
    status, _ = await post(sidecar, REPLAY, {"form_token": token}, Cookie=cookie, **headers)
    assert status == 403
    assert len(await letters(sidecar)) == 1


async def test_our_own_form_does_it(sidecar) -> None:
    token, cookie = await form(sidecar)
    headers = {"Origin": f"http://{sidecar.admin}", "Sec-Fetch-Site": "same-origin", "Cookie": cookie}
    assert (await post(sidecar, REPLAY, {"form_token": token}, **headers))[0] == 303


async def test_pages_of_other_ports_can_read_nothing_but_links_from_anywhere_lead_in(sidecar) -> None:
    assert (await get(sidecar, "/dashboard/dead-letters/1", **{"Sec-Fetch-Site": "same-site"}))[0] == 403
    assert (await get(sidecar, "/dashboard/tail/feed", Origin="http://127.0.0.1:8000"))[0] == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await get(sidecar, "/dashboard/dead-letters/1", **link))[0] == 200


async def test_the_host_is_checked_as_everywhere(sidecar) -> None:
    assert (await get(sidecar, "/dashboard/", Host="evil.example"))[0] == 403


async def test_the_cookie_can_not_be_read_by_scripts_and_is_sent_to_the_dashboard_alone(sidecar) -> None:
    _, _, headers = await get(sidecar, "/dashboard/")
    port = sidecar.admin.rpartition(":")[2]
    assert headers["Set-Cookie"].startswith(f"walnatsd-form-{port}=")
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "Path=/dashboard" in headers["Set-Cookie"]
    assert "SameSite=Lax" in headers["Set-Cookie"]


async def test_a_payload_is_downloaded_byte_for_byte_and_never_shown(nats, receiver) -> None:
    receiver.answer = refuse
    binary, long = bytes(range(256)) * 4, b"x" * 50_000 + b"end"
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, [binary, long])
        found = {letter["payload_bytes"]: letter["sequence"] for letter in await letters(sidecar)}
        for body in (binary, long):
            path = f"/dashboard/dead-letters/{found[len(body)]}"
            async with sidecar.session.get(f"http://{sidecar.admin}{path}/payload") as response:
                assert await response.read() == body
                assert response.content_type == "application/octet-stream"
                assert response.headers["Content-Disposition"].startswith("attachment")
                assert response.headers["Content-Security-Policy"].startswith("sandbox")
            _, text, _ = await get(sidecar, path)
            assert "only the beginning is shown" in text
            assert len(text) < 30_000
        _, text, _ = await get(sidecar, f"/dashboard/dead-letters/{found[len(binary)]}")
        assert "0000  00 01 02" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nothing", 404),
        ("static/..%2fpages.py", 404),
        ("static/%2e%2e%2f%2e%2e%2fpages.py", 404),
        ("actors/counts/nobody", 404),
        ("actors/%3Cscript%3E/x", 404),
        ("dead-letters/99", 404),
        ("dead-letters/x", 400),
        ("dead-letters?of=%00/%00", 400),
        ("dead-letters?cursor=x", 400),
        ("tail/feed?event=nothing", 404),
    ],
)
async def test_a_wrong_address_is_a_page_that_says_so(sidecar, path, status) -> None:
    got, text, headers = await get(sidecar, f"/dashboard/{path}")
    assert got == status
    assert headers["Content-Type"].startswith("text/html")
    assert 'role="alert"' in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("dead-letters/replay", {}, "choose at least one"),
        ("dead-letters/replay", {"all": "yes"}, "choose the actor"),
        ("dead-letters/replay", {"sequence": "x"}, "named by its number"),
        ("dead-letters/replay", {"sequence": "9" * 40}, "named by its number"),
        ("dead-letters/1/discard", {}, "say that you are sure"),
    ],
)
async def test_a_form_that_makes_no_sense_is_refused_in_words(sidecar, path, fields, said) -> None:
    token, cookie = await form(sidecar)
    status, text = await post(sidecar, f"/dashboard/{path}", {"form_token": token, **fields}, Cookie=cookie)
    assert status == 400
    assert said in text
    assert len(await letters(sidecar)) == 1


async def test_what_is_no_form_is_refused(sidecar) -> None:
    async with sidecar.session.post(f"http://{sidecar.admin}{REPLAY}", json={}) as response:
        assert response.status == 400
        assert "a form has the content type" in await response.text()
    async with sidecar.session.post(f"http://{sidecar.admin}/dashboard/", data={}) as response:
        assert response.status == 405


async def test_what_is_discarded_for_sure_is_gone(sidecar) -> None:
    token, cookie = await form(sidecar)
    fields = {"form_token": token, "sure": "yes"}
    assert (await post(sidecar, "/dashboard/dead-letters/1/discard", fields, Cookie=cookie))[0] == 303
    assert await letters(sidecar) == []


async def test_a_replay_that_fails_says_why_and_the_others_go_on(sidecar) -> None:
    token, cookie = await form(sidecar)
    body = f"form_token={token}&sequence=77&sequence=1"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    url = f"http://{sidecar.admin}/dashboard/dead-letters/replay"
    async with sidecar.session.post(url, data=body, headers=headers) as response:  # follows to the page
        text = await response.text()
    assert "1 dead letter was replayed. 1 could not be: 77: there is no dead letter 77." in text


async def test_names_that_somebody_made_up_make_no_header(sidecar) -> None:
    token, cookie = await form(sidecar)
    fields = {"form_token": token, "sequence": "77", "of": "a\r\nSet-Cookie: a=b/c&cursor=x"}
    url = f"http://{sidecar.admin}/dashboard/dead-letters/replay"
    async with sidecar.session.post(url, data=fields, headers={"Cookie": cookie}, allow_redirects=False) as response:
        assert response.status == 303
        assert response.headers["Location"] == "/dashboard/dead-letters?of=a%0D%0ASet-Cookie%3A%20a%3Db/c%26cursor%3Dx"


async def test_the_dashboard_says_what_is_wrong_while_nats_is_away() -> None:
    async with running(
        config_text(f"nats://127.0.0.1:{free_port()}", events=[{"name": "counts"}]), ready=False
    ) as sidecar:
        status, text, _ = await get(sidecar, "/dashboard/")
        assert status == 200
        assert "This sidecar is not ready." in text
        assert "waiting for NATS" in text
        assert (await get(sidecar, "/dashboard/dead-letters"))[0] == 503


async def test_an_orphan_is_something_to_look_at(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.add_consumer("counts", durable_name="left-behind", ack_policy="explicit")

        async def is_shown() -> bool:
            return (
                "consumers that nobody serves hold messages back: left-behind" in (await get(sidecar, "/dashboard/"))[1]
            )

        await until(is_shown)
        assert "nobody serves it" in (await get(sidecar, "/dashboard/map"))[1]
        assert '<span class="state trouble">orphans</span>' in (await get(sidecar, "/dashboard/"))[1]


async def test_the_state_of_an_event_is_seen_once_nats_was_asked(nats) -> None:
    events = [{"name": "counts"}, {"name": "nobody-cares"}, {"name": "full", "limits": {"messages": 5}}]
    actors = [{"name": "print", "event": name, "url": "http://127.0.0.1:9/"} for name in ("counts", "full")]
    async with running(config_text(nats.url, events=events, actors=actors)) as sidecar:
        for _ in range(5):
            await sidecar.emit("full", "1")

        async def states() -> dict[str, str]:
            _, text, _ = await get(sidecar, "/dashboard/")
            rows = re.findall(r'<tr data-row="([\w-]+)">\s*<th.*?</th>\s*<td>(.*?)</td>', text, re.DOTALL)
            return {name: re.sub("<.*?>", "", state) for name, state in rows}

        seen = {"counts": "well", "nobody-cares": "no actors", "full": "nearly full"}

        async def are_seen() -> bool:
            return await states() == seen

        await until(are_seen)
