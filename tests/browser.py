"""A page in a real browser, and everything it logged, raised or asked for."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def opened_page(
    url: str, height: int = 800, timeout: float = 20_000, own: tuple[str, ...] = ()
) -> Iterator[tuple[Any, list[str]]]:
    """Open a page as on a phone in the dark; skips where there is no browser to drive.

    Args:
        url: Of the page.
        height: Pixels; it is 400 wide.
        timeout: Milliseconds that anything may take to appear.
        own: What URLs begin with that the page may ask for unheard.
    """
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome is installed")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 400, "height": height}, color_scheme="dark")
        page.set_default_timeout(timeout)
        heard: list[str] = []
        page.on("console", lambda said: heard.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(own) else heard.append(asked.url))
        page.goto(url)
        yield page, heard
        browser.close()
