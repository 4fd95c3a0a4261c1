"""README and docs cannot rot: their commands parse, every command is described, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipeline.cli.app import app
from pipeline.cli.parsing import COMMANDS, parse

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "configs").glob("*.yaml"))]


def commands() -> list[str]:
    """Every `python run.py ...` line of the pages, continued lines joined."""
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n[ #]*", " ", page.read_text(encoding="utf-8"))
        for line in text.splitlines():
            match = re.search(r"python run\.py ([^`#|&]*)", line)
            if match and (line.lstrip().startswith(("python", "$ python", "pip", "#")) or page.suffix == ".md"):
                words = match.group(1).strip()
                if words and not words.startswith(("<", "...")) and " ..." not in words:
                    found.append(words)
    return sorted(set(found))


@pytest.mark.parametrize("words", commands())
def test_every_documented_command_is_understood_by_the_parser(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if "--help" in words:
        return
    parse(app, shlex.split(words))


def test_the_pages_hold_commands_at_all() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", [*COMMANDS, "cache info", "cache verify", "cache export", "cache prune"])
def test_every_command_is_described(command: str) -> None:
    assert f"| `python run.py {command}" in (ROOT / "docs" / "COMMANDS.md").read_text(encoding="utf-8")


def test_the_readme_is_read_in_five_minutes() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`: the headings of a page as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[Path, str]]:
    """Every link of the pages that leads to a file of this project."""
    pages = [page for page in [*PAGES, ROOT / "benchmarks" / "RESULTS.md"] if page.suffix == ".md"]
    found = [(page, to) for page in pages for to in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))]
    return [(page, to) for page, to in found if "://" not in to]


@pytest.mark.parametrize(("page", "to"), links(), ids=lambda part: str(part).removeprefix(f"{ROOT}/"))
def test_every_link_leads_to_a_file_and_a_heading(page: Path, to: str) -> None:
    name, _, anchor = to.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.is_file()
    assert not anchor or anchor in anchors(target)


def test_the_readme_leads_to_every_page() -> None:
    named = {(page.parent / to.partition("#")[0]).resolve() for page, to in links() if page.name == "README.md"}
    assert set((ROOT / "docs").glob("*.md")) <= named


def test_the_picture_is_light() -> None:
    assert (ROOT / "docs" / "report.png").stat().st_size < 300_000
