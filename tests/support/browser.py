"""A headless Chromium that sees the dashboard as an operator does."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import which
from typing import Any

from playwright.async_api import BrowserContext, Page, async_playwright, expect

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""Where the pictures of the documentation go; they are made anew by every run and never committed."""
PATIENCE_MS = 20_000
_QUIET = (
    "--no-sandbox",  # CI runs as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextlib.asynccontextmanager
async def browser(**options: Any) -> AsyncIterator[BrowserContext]:
    """A browser with an empty profile; fails when a page logs an error, raises one, or asks for anything elsewhere."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=which("chromium"), args=list(_QUIET))
        context = await started.new_context(**({"viewport": {"width": 1360, "height": 850}} | options))
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        troubles: list[str] = []
        hosts: set[str] = set()
        context.on("weberror", lambda error: troubles.append(str(error.error)))
        context.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        context.on(
            "console", lambda said: troubles.append(said.text) if "Content Security Policy" in said.text else None
        )
        context.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        try:
            yield context
        finally:
            await started.close()
        assert troubles == []
        assert len(hosts) <= 1, hosts


async def picture(page: Page, name: str) -> None:
    """Take a screenshot for the documentation."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")
