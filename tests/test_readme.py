"""The README cannot rot: its commands parse, every command is described, its snippet is the tested one."""

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
def test_every_command_is_described_in_the_readme(command: str) -> None:
    assert f"run.py {command}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_snippet_is_the_one_that_is_tested_and_short() -> None:
    snippet = (ROOT / "tests" / "model" / "snippet.txt").read_text(encoding="utf-8").strip()
    assert f"```python\n{snippet}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(snippet.splitlines()) <= 20
