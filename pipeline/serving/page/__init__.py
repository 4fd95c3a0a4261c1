"""The page of the server: a few files that ask nothing of any other host, in the style of the report pages."""

from __future__ import annotations

from pathlib import Path

from pipeline.comparison.page.scripts import ASSETS

HERE = Path(__file__).parent


def page_files() -> dict[str, tuple[bytes, str]]:
    """Path to (content, media type) of what a browser asks for."""
    return {
        "/": ((HERE / "index.html").read_bytes(), "text/html; charset=utf-8"),
        "/style.css": ((ASSETS / "style.css").read_bytes(), "text/css; charset=utf-8"),
        "/serve.css": ((HERE / "serve.css").read_bytes(), "text/css; charset=utf-8"),
        "/decide.js": ((HERE / "decide.js").read_bytes(), "text/javascript; charset=utf-8"),
        "/serve.js": ((HERE / "serve.js").read_bytes(), "text/javascript; charset=utf-8"),
    }
