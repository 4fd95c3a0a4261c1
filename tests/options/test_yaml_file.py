"""One YAML file for the whole flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import OptionError
from pipeline.options.yaml_file import PRESETS, find_preset, read_config

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
    ],
)
def test_what_is_not_an_option_is_an_error_with_the_nearest_match(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_config(write(tmp_path, text), KNOWN)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot read the config file"):
        read_config(tmp_path / "none.yaml", KNOWN)


def test_unknown_preset_lists_those_there_are() -> None:
    assert "best" in {path.stem for path in PRESETS.glob("*.yaml")}
    with pytest.raises(OptionError, match=r"no preset named 'bset'; there are: best"):
        find_preset("bset")
