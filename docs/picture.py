"""docs/report.png: the top of the report page that `python run.py demo` makes.

    python docs/picture.py [REPORT.html]

Without a page it runs the demo in a temporary folder first. Needs Playwright and an installed Chromium or Chrome.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1400, 940
COLOURS = 128
"""Enough for text and bars; full colour would take three times the bytes."""


def demo_page(folder: Path) -> Path:
    """The report page of a demo that is run in `folder`, as a user would: the page shows the paths that were given."""
    subprocess.run([sys.executable, str(ROOT / "run.py"), "demo"], cwd=folder, check=True)
    return folder / "demo" / "train" / "report.html"


def picture_of(report: Path) -> Image.Image:
    """The first WIDTH x HEIGHT pixels of a page, in a palette."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"a browser is needed, none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        shot = page.screenshot()
        opened.close()
    return Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    """Write the picture of the page that the command line names, or of a demo."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(sys.argv[1]) if len(sys.argv) > 1 else demo_page(Path(folder))
        picture_of(report).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
