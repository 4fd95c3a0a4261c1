"""One YAML file for the whole flow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import OptionError
from pipeline.options.forms.yaml_file import MOST_BYTES, PRESETS, find_preset, parse_yaml, read_config
from tests.byte_mutations import damaged

KNOWN = {"extract": ["backbone", "features", "batch-size"], "fit-heads": ["backbone", "heads", "batch-size"]}


def write(folder: Path, text: str) -> Path:
    path = folder / "flow.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shared_options_reach_every_command_that_has_them_and_sections_win(tmp_path: Path) -> None:
    path = write(
        tmp_path, "backbone: resnet18\nbatch_size: 8\nheads: [linear]\nfit-heads:\n  batch-size: 256\nextract:\n"
    )
    assert read_config(path, KNOWN) == {
        "extract": {"backbone": "resnet18", "batch-size": 8},
        "fit-heads": {"backbone": "resnet18", "heads": ["linear"], "batch-size": 256},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bakbone: x", "unknown option 'bakbone'; did you mean 'backbone'"),
        ("fit-heads:\n  hedas: [x]", "section fit-heads: unknown option 'hedas'; did you mean 'heads'"),
        ("extract:\n  heads: [x]", "section extract: unknown option 'heads'"),
        ("fit-head:\n  heads: [x]", "unknown option 'fit-head'; did you mean 'fit-heads'"),
        ("- a\n- b", "holds a list; expected a mapping"),
        ("a: [", "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("backbone: a\nbackbone: b", "is not valid YAML: 'backbone' is there twice"),
        ("batch_size: 1\nbatch-size: 2", "the option 'batch-size' is there twice, under two spellings"),
        ("extract: {batch_size: 1, batch-size: 2}", "section extract: the option 'batch-size' is there twice"),
        ("batch-size: 0x_", "is not valid YAML: invalid literal for int"),
        ("batch-size: !!int ''", "is not valid YAML: string index out of range"),
        ("batch-size: 0x" + "f" * 4000, "is not valid YAML: a number in it has too many digits"),
        ("batch-size: 1" + ":00" * 100_000, "is not valid YAML: a number of 300001 characters"),
        ("heads: &a [*a]", "is not valid YAML: .* holds itself by an alias"),
        ("heads: &a {x: *a}", "is not valid YAML: .* holds itself by an alias"),
        ("heads: " + "[" * 60 + "]" * 60, "is not valid YAML: it is nested more than 50 times"),
        ("heads: " + "[" * 5000, "is not valid YAML: maximum recursion depth"),
        ("? [a]\n: b", "is not valid YAML: .*unhashable"),
        ('backbone: "\\ud800"', "is not valid YAML: .*(holds a lone surrogate|invalid Unicode character)"),
        ('backbone: "a\\0b"', "is not valid YAML: the text .* holds a NUL"),
        ("backbone: a\n" + "#" * MOST_BYTES, "cannot read the config file .* larger than the 1048576 bytes"),
    ],
)
def test_what_is_not_an_option_is_an_error_with_the_nearest_match(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError, match=f"(?s){message}"):
        read_config(write(tmp_path, text), KNOWN)


def test_damaged_bytes_give_options_or_a_named_error(tmp_path: Path) -> None:
    text = (
        'backbone: "resnet18"\nbatch_size: 0x10\nheads: [linear, &a knn]\nfit-heads: {heads: [*a], batch-size: 1_0}\n'
    )
    path = write(tmp_path, text)
    outcomes = []
    for seed in range(300):
        path.write_bytes(damaged(text.encode(), seed))
        try:
            str(read_config(path, KNOWN)).encode()
            outcomes.append(True)
        except OptionError as error:
            assert str(error).encode()
            outcomes.append(False)
    assert {*outcomes} == {True, False}


def test_aliases_that_multiply_are_refused_before_they_are_spelt_out(tmp_path: Path) -> None:
    lists = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20))
    with pytest.raises(OptionError, match="more than 2000000 values"):
        read_config(write(tmp_path, "a0: &a0 [x]\n" + lists), KNOWN)
    with pytest.raises(OptionError, match="found unhashable key"):
        read_config(write(tmp_path, "a0: &a0 [x]\n" + lists + "? *a19\n: x\n"), KNOWN)
    merged = "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 20))
    with pytest.raises(OptionError, match="more than 10000 names"):
        read_config(write(tmp_path, "a0: &a0 {x: 1}\n" + merged), KNOWN)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "flow.yaml")
    with pytest.raises(OptionError, match="cannot read the config file .*not a regular file"):
        read_config(tmp_path / "flow.yaml", KNOWN)


def test_a_merged_mapping_may_be_overridden_by_its_own_names() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}")["c"] == {"x": 3, "y": 4}


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot read the config file"):
        read_config(tmp_path / "none.yaml", KNOWN)


def test_unknown_preset_lists_those_there_are() -> None:
    assert "best" in {path.stem for path in PRESETS.glob("*.yaml")}
    with pytest.raises(OptionError, match=r"no preset named 'bset'; there are: best"):
        find_preset("bset")
