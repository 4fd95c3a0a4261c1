"""The bounds of docs/SECURITY.md: beyond them a named error, within them an answer in seconds."""

from __future__ import annotations

import csv
import re
import resource
import sys
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.catalogue.reading import attributes, raw_rows
from pipeline.errors import CatalogueError
from pipeline.features.backbone import limits
from pipeline.options.forms import yaml_file

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))

from benchmarks.fuzzing.readers import READERS  # noqa: E402
from benchmarks.fuzzing.sandbox import NAMED, RESULT, Sandbox  # noqa: E402

TEXT = (HOME / "docs" / "SECURITY.md").read_text(encoding="utf-8")
# Half of what is promised to be answered, and twice the time, but of the processor's: tests run beside others, and wait
# for their turn. What takes the square of either would take minutes.
MANY, SECONDS, PATIENCE = 50_000, 10.0, 60.0
NAMES = [f"c{i}" for i in range(MANY)]
HEADER, ROW, CELL = ",".join(NAMES), ",".join("v" for _ in NAMES), "x" * 10_000_000
B = "id,filename,category,attributes\n"
COUNTED = "".join(f"1,a.jpg,d,\"{{'c{i}': ['v']}}\"\n" for i in range(20_000))

LARGE = {
    "catalogue/a.csv/columns": (f"filename,{HEADER}\na.jpg,{ROW}\nb.jpg,{ROW}\n", RESULT),
    "catalogue/a.csv/cell": (f"filename,neck\na.jpg,{CELL}\nb.jpg,v\n", NAMED),
    "catalogue/b.csv/columns": (B[:-1] + f",{HEADER}\n1,a.jpg,d,{{}},{ROW}\n", RESULT),
    "catalogue/b.csv/cell": (B + f"1,a.jpg,d,\"{{'neck': '{CELL}'}}\"\n", NAMED),
    "catalogue/b.csv/attributes": (B + COUNTED, NAMED),
    "lists/values.json/names": ("{" + ",".join(f'"{name}": ["v"]' for name in NAMES) + "}", NAMED),
    "lists/attributes.json/cell": ('{"neck": ["' + CELL + '"]}', RESULT),
    "mapping/m.csv/columns": (f"attribute,value,replacement,{HEADER}\nneck,v,round,{ROW}\n", RESULT),
    "mapping/m.csv/cell": (f"attribute,value,replacement\nneck,{CELL},round\n", NAMED),
    "mapping/m.yaml/names": ("- {" + ", ".join(f"{name}: v" for name in NAMES) + "}\n", NAMED),
    "mapping/m.yaml/cell": (f"- {{attribute: neck, value: {CELL}, replacement: ''}}\n", NAMED),
    "split/edited.csv/columns": (f"photo,content,group,part,{HEADER}\na.jpg,,0,train,{ROW}\n", NAMED),
    "split/edited.csv/cell": (f"photo,content,group,part\n{CELL},,0,train\n", NAMED),
    "options/flow.yaml/names": ("".join(f"{name}: v\n" for name in NAMES), NAMED),
    "options/flow.yaml/values": ("fit-heads: {lr: [" + ", ".join("0.1" for _ in NAMES) + "]}\n", NAMED),
    "options/flow.yaml/text": ('fit-heads: {lr: "' + ",".join("0.1" for _ in NAMES) + '"}\n', NAMED),
    "options/flow.yaml/cell": (f"backbone: {CELL}\n", NAMED),
    "runs/configs.csv/columns": (f"config_id,{HEADER}\nx,{ROW}\n", RESULT),
    "runs/configs.csv/cell": (f"config_id,a\nx,{CELL}\n", NAMED),
    "runs/run.json/cell": ('{"a": "' + CELL + '"}', NAMED),
}
"""Much of something, by reader and file, and how it must be answered."""


@pytest.mark.parametrize("name", LARGE)
def test_much_of_something_is_answered_within_seconds(tmp_path: Path, name: str) -> None:
    reader_name, sample, _ = name.split("/")
    text, kind = LARGE[name]
    reader = READERS[reader_name](tmp_path)
    before = seconds_of_children()
    with Sandbox(reader.read, reader.errors, PATIENCE, 512) as sandbox:
        outcome = sandbox.run(sample, text.encode())
    assert outcome.kind == kind, outcome
    assert seconds_of_children() - before < SECONDS


def seconds_of_children() -> float:
    """Of the processor, by all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_catalogue_of_more_cells_than_memory_holds_is_refused_before_they_are_made() -> None:
    raw_rows.check_cells(Path("a.csv"), 2**14, 2**14)
    with pytest.raises(CatalogueError, match=r"a\.csv: 16385 rows of 16384 attributes are more than the 268435456"):
        raw_rows.check_cells(Path("a.csv"), 2**14 + 1, 2**14)


def test_a_long_error_keeps_its_beginning_and_its_end() -> None:
    text = str(CatalogueError("what is wrong " + CELL + " what to do"))
    assert len(text) < errors.LONGEST_TEXT + 10
    assert text.startswith("what is wrong x") and text.endswith("x what to do")


@pytest.mark.parametrize(
    "value",
    [
        attributes.MOST_CHARACTERS,
        attributes.MOST_ATTRIBUTES,
        raw_rows.MOST_CELLS,
        csv.field_size_limit(),
        yaml_file.LONGEST_TEXT,
        yaml_file.MOST_BYTES // 2**20,
        yaml_file.MOST_NODES,
        yaml_file.DEEPEST,
        yaml_file.MOST_VALUES,
        limits.MAX_PIXELS,
        limits.MAX_SCANS,
        limits.MAX_READS,
        limits.MAX_FILE_BYTES // 2**20,
        errors.LONGEST_TEXT,
    ],
)
def test_the_document_states_the_bounds_that_the_code_has(value: int) -> None:
    assert re.search(rf"(?<![\d,]){value:,}(?![\d,])", TEXT), f"{value:,} is not in docs/SECURITY.md"
