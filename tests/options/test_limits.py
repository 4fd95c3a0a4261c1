"""The limits of numbers: one for every option that holds any, held against the command line and YAML files alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pipeline import options
from pipeline.cli import app as commands
from pipeline.cli.app import app
from pipeline.cli.main import main
from pipeline.cli.parsing import parse
from pipeline.errors import OptionError
from pipeline.options.forms.limits import check_options, limit_of


def option_classes() -> list[type[Any]]:
    every = [c for home in (options, commands) for c in vars(home).values() if dataclasses.is_dataclass(c)]
    return list(dict.fromkeys(c for c in every if isinstance(c, type)))


def test_every_number_of_every_command_has_a_limit_that_its_default_is_within() -> None:
    counted = 0
    for kind in option_classes():
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if {int, float} & {hints[field.name], *get_args(hints[field.name])}:
                counted += 1
                assert limit_of(kind, field.name) is not None, f"{kind.__name__}.{field.name} has no limit"
        if all(f.default is not dataclasses.MISSING for f in dataclasses.fields(kind)):
            check_options(kind())
    assert counted > 50


BAD = [
    ("compare run --bootstrap 1e11", "--bootstrap is '1e11'; expected a whole number, 1 or more and at most 100000"),
    ("compare run --bootstrap 100000000000", "--bootstrap is 100000000000; expected a whole number, 1 or more"),
    ("compare run --bootstrap 0", "--bootstrap is 0; expected a whole number, 1 or more"),
    ("compare run --seed -1", "--seed is -1; expected a whole number, 0 or more and at most 4294967295"),
    (f"compare run --seed {'9' * 5000}", "--seed has 5000 characters; expected a whole number, 0 or more"),
    ("compare run --json=", "--json is empty; expected the name of a file or folder"),
    ("audit --seed 0,-3", "--seed is -3; expected"),
    ("audit --min-support 1", "--min-support is 1; expected a whole number, 2 or more"),
    ("fit-heads --seed 4294967296", "--seed is 4294967296; expected"),
    ("fit-heads --seed 1.5", "--seed is '1.5'; expected a whole number"),
    ("fit-heads --split-seed -1", "--split-seed is -1; expected"),
    ("fit-heads --memory inf", "--memory is inf; expected a number, above 0 and at most 1048576"),
    ("fit-heads --memory nan", "--memory is nan; expected"),
    ("fit-heads --memory 0", "--memory is 0.0; expected"),
    ("fit-heads --memory -1", "--memory is -1.0; expected"),
    ("fit-heads --lr 0.1,nan", "--lr is nan; expected a number, above 0"),
    ("fit-heads --out=", "--out is empty"),
    ("extract --workers -1", "--workers is -1; expected a whole number, 1 or more and at most 4096"),
    ("extract --batch-size -1", "--batch-size is -1; expected a whole number, 1 or more"),
    ("extract --size 10", "--size is 10; expected a whole number, 32 or more and at most 65536"),
    ("extract --wait inf", "--wait is inf; expected a number, 0 or more"),
    ("predict photo.jpg --model m.joblib --batch-size 0", "--batch-size is 0; expected"),
    ("finetune --crop 0", "--crop is 0.0; expected a number, above 0 and at most 1"),
    ("sample out --images -5", "--images is -5; expected a whole number, 1 or more"),
    ("demo --seed -1", "--seed is -1; expected"),
    ("cache info --cache=", "--cache is empty"),
    ("vocabulary --similar nan", "--similar is nan; expected a number, above 0 and at most 100"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words[:40] for words, _ in BAD])
def test_a_number_outside_is_refused_by_name_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 1
    text = capsys.readouterr()
    assert text.err.startswith(f"error: {message}")
    assert len(text.err) < 300
    assert text.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("empty", ["compare", "predict --model m.joblib", "reproduce", "sample"])
def test_an_empty_word_is_not_the_current_folder(empty: str) -> None:
    with pytest.raises(OptionError, match="an empty word stands where the name of a file or folder was expected"):
        parse(app, [*empty.split(), ""])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers: -1", "--workers is -1; expected"),
        ("extract:\n  workers: 1.5", "--workers is '1.5'; expected"),
        ("batch-size: .inf", "--batch-size is 'inf'; expected"),
        ("wait: .nan", "--wait is nan; expected"),
        ('cache: ""', "--cache is empty"),
        (f"workers: {'9' * 4000}", "--workers has 4000 characters; expected"),
        (f"workers: {'9' * 5000}", "is not valid YAML"),
        ("[" * 5000, "is not valid YAML"),
    ],
)
def test_a_yaml_file_is_held_to_the_same_limits(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "flow.yaml").write_text(text)
    with pytest.raises(OptionError, match=message):
        parse(app, ["extract", "--config", str(tmp_path / "flow.yaml")])


def test_a_plan_is_checked_as_a_whole_before_its_first_run(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        f"out: {tmp_path / 'out'}\ndata: {{data: nowhere}}\nextractions:\n  one: {{backbone: resnet18}}\n"
        "runs:\n- {name: first, extraction: one}\n- {name: last, extraction: one, seed: -1}\n"
    )
    with pytest.raises(OptionError, match="--seed is -1; expected"):
        parse(app, ["reproduce", str(tmp_path / "plan.yaml")])()
    assert not (tmp_path / "out").exists()
