"""`--help` shows what most people need, in groups; `--help-all` shows every option that the command takes."""

from __future__ import annotations

import re

import pytest

from pipeline.cli.app import app
from pipeline.cli.help import FIRST, GROUPS, help_text
from pipeline.cli.main import main
from pipeline.cli.parsing import COMMANDS, WITHOUT_FILES, options_of


def shown(text: str) -> list[str]:
    return re.findall(r"^  --([\w-]+)", text, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(FIRST))
def test_the_first_options_are_about_ten_and_the_command_has_them(command: str) -> None:
    first = FIRST[command]
    assert 7 <= len(first) <= 10 and len(set(first)) == len(first)
    assert set(first) <= set(options_of(app, command))
    assert sorted(shown(help_text(app, command.split(), everything=False))) == sorted(first)


@pytest.mark.parametrize("command", [*COMMANDS, *WITHOUT_FILES])
def test_all_options_are_shown_once_and_said(command: str) -> None:
    text = help_text(app, command.split(), everything=True)
    needed = set(re.findall(r"^  ([A-Z]+)\b", text, re.MULTILINE))
    options = [name for name in options_of(app, command) if name.upper() not in needed]
    assert sorted(shown(text)) == sorted(options)
    assert "[]" not in text and "()" not in text and "None" not in text
    assert not re.search(r"^  --[\w-]+( \S+)?$\n(?!  {24})", text, re.MULTILINE), "every one has a text"


def test_options_stand_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit-heads", "--help"]) == 0
    few = capsys.readouterr().out
    assert main(["fit-heads", "--help-all"]) == 0
    text = capsys.readouterr().out
    groups = [line[:-1] for line in text.splitlines() if line and line[0] != " " and line.endswith(":")]
    assert groups == [*(group for group in GROUPS if group != "Server"), "Advanced"]
    data, decisions = text.index("Data:"), text.index("Decisions:")
    assert data < text.index("--image-name") < text.index("Heads:") < decisions < text.index("--threshold")
    left = len(shown(text)) - len(shown(few))
    assert f"{left} more options: python run.py fit-heads --help-all" in few
    assert "--epochs N              Most epochs a torch head is trained for. [30]" in text
    assert "--seed N,...            Seeds" in text and "orders the batches. [0]" in text


def test_what_train_hands_on_has_no_default_of_its_own() -> None:
    text = help_text(app, ["train"], everything=True)
    assert "[resnext50_32x4d]" not in text and "What is not said is as the recipe has it" in text


def test_the_program_and_an_unknown_command_show_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["trian", "--help"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert re.search(r"^Usage: run.py COMMAND$", text, re.MULTILINE)
        assert [name for name in COMMANDS if " " not in name and not re.search(rf"^  {name} ", text, re.M)] == []
