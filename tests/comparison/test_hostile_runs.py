"""Run folders that anybody may have written: nothing outside is read, no inconsistent table becomes a figure."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.comparison.compare import compare
from pipeline.comparison.csv_file import save_csv
from pipeline.comparison.page import render
from pipeline.comparison.page.data import page_data
from pipeline.comparison.records import save_json
from pipeline.comparison.table import table
from pipeline.errors import PipelineError, RunError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.options import CacheKeyOptions, CompareOptions, DataOptions, FitOptions, SplitOptions
from tests.comparison import runfolder
from tests.comparison.runfolder import CONFIGS, GOOD, write_run
from tests.mutations import mutated
from tests.small_cache import write_catalogue

LINEAR, _ = CONFIGS
QUICK = CompareOptions(bootstrap=5)
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as `fit-heads` writes it."""
    folder = tmp_path_factory.mktemp("real")
    small = write_catalogue(folder, photos=60)
    fit = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam", "sgd"), epochs=2, out=folder / "run")
    return fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), fit).run


@pytest.mark.parametrize("name", ["../../outside/p", "/etc/passwd", "..", "", "a\\b", "C:p", "a\x1bb", "a\0b"])
def test_a_configuration_is_a_file_of_its_own_run_folder(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "runs" / "a", configs={LINEAR: CONFIGS[LINEAR]})
    (tmp_path / "outside").mkdir()
    shutil.copy(run / "predictions" / f"{LINEAR}.parquet", tmp_path / "outside" / "p.parquet")
    decisions = json.loads((run / "decisions.json").read_text())
    (run / "decisions.json").write_text(json.dumps({name: decisions[LINEAR]}))
    with pytest.raises(RunError, match=r"decisions\.json: the configuration .* its files are named by it"):
        compare([run], QUICK)


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "dropped.csv",
        "split.csv",
        "predictions",
        f"predictions/{LINEAR}.parquet",
        "thumbnails",
        "history.csv",
    ],
)
def test_a_link_does_not_lead_a_comparison_out_of_the_run_folder(tmp_path: Path, name: str, absolute: bool) -> None:
    run, outside = write_run(tmp_path / "runs" / "a"), tmp_path / "outside"
    if (run / name).exists():
        (run / name).rename(outside)
    elif name == "thumbnails":
        outside.mkdir()
    else:
        outside.write_text("kind,photo,detail\nsecret,of,somebody\n")
    (run / name).symlink_to(outside if absolute else Path("../" * (2 + name.count("/")), "outside"))
    with pytest.raises(RunError, match=r"leads out of the run folder, to .*outside; put the file itself there"):
        compare([run], QUICK)


def test_links_within_a_run_folder_and_to_it_and_models_elsewhere_are_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "a")
    (run / "history.csv").rename(run / "h.csv")
    (run / "history.csv").symlink_to("h.csv")
    (run / "models").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(run)
    assert compare([tmp_path / "link"], QUICK).candidates


def test_paths_in_run_json_are_texts_that_nothing_opens(tmp_path: Path) -> None:
    """The data, cache and photos that a run names may be anybody's: none is looked at, and no page links to them."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    options = {"data": {"data": str(secret), "images": "/etc"}, "fit": {"cache": "../..", "out": str(tmp_path)}}
    rows = [(f"../../{r[0]}" if r[2] == "test" else r[0], *r[1:]) for r in runfolder.ROWS]
    comparison = compare([write_run(tmp_path / "a", rows=rows, options=options)], QUICK)
    page = render(comparison, page_data(comparison))
    marked = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    links = re.findall(r"""(?:href|src|action|data|poster)\s*=\s*["']?([^"'\s>]*)""", marked)
    assert all(link.startswith(("#", "data:image/")) for link in links), links
    assert base64.b64encode(b"secret").decode() not in page


def change_table(path: Path, change: Change) -> None:
    content = pq.read_table(path).to_pydict()
    change(content)
    pq.write_table(pa.table(content), path)


def twice(column: dict[str, Any]) -> None:
    for cells in column.values():
        cells.append(cells[-1])


def swap(name: str, at: int, value: object) -> Change:
    return lambda content: content[name].__setitem__(at, value)


def all_as(name: str, kind: Callable[[Any], Any]) -> Change:
    return lambda content: content.update({name: [kind(cell) for cell in content[name]]})


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("predictions", twice, r"two rows of the photo j1\.jpg"),
        ("predictions", swap("p:neck=v", 3, 1e6), r"'p:neck=v' of f2\.jpg is 1e\+06; a probability lies between 0 and"),
        ("predictions", swap("p:neck=v", 3, -0.1), r"'p:neck=v' of f2\.jpg is -0\.1"),
        ("predictions", swap("p:neck=v", 3, None), "probabilities that are not numbers"),
        ("predictions", all_as("p:neck=v", str), r"'p:neck=v' holds string; expected floating-point numbers"),
        ("predictions", swap("part", 3, "validation"), r"has f2\.jpg in part 'validation', which is in part test in"),
        ("predictions", swap("part", 0, "test"), r"has d1\.jpg in part 'test', which is in part validation in"),
        ("predictions", swap("photo", 0, "z.jpg"), r"has z\.jpg in part 'validation', which is not in split\.csv"),
        ("predictions", swap("photo", 0, None), r"the column 'photo' holds something other than texts"),
        ("predictions", lambda c: c.pop("part"), r"no column 'part'"),
        ("predictions", lambda c: c.update({"p:neck=w": c["p:neck=v"]}), r"the column 'p:neck=w' too many"),
        ("labels", twice, r"two rows of the photo j1\.jpg"),
        ("labels", swap("neck=v", 6, 2), r"'neck=v' of f1\.jpg is 2; a label is 0, 1 or null"),
        ("labels", swap("neck=v", 6, 256), r"'neck=v' of f1\.jpg is 256; a label is 0, 1 or null"),
        ("labels", swap("neck=v", 6, -1), r"'neck=v' of f1\.jpg is -1"),
        ("labels", swap("neck=v", 6, 0.5), r"'neck=v' holds double; expected integers 0, 1 or null"),
        ("labels", lambda c: c.update(other=c["photo"]), r"the column 'other' too many"),
        ("labels", lambda c: [cells.pop() for cells in c.values()], r"no row for 1 of the 12 photos of split\.csv"),
    ],
)
def test_an_inconsistent_table_is_refused(tmp_path: Path, file: str, change: Change, message: str) -> None:
    run = write_run(tmp_path / "a", configs={LINEAR: CONFIGS[LINEAR]})
    compare([run], QUICK)
    change_table(run / (f"predictions/{LINEAR}.parquet" if file == "predictions" else "labels.parquet"), change)
    with pytest.raises(RunError, match=message):
        compare([run], QUICK)


def test_labels_of_a_photo_that_is_in_no_part_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    change_table(run / "labels.parquet", lambda c: [cells.append("z.jpg" if n == "photo" else 1) for n, cells in c.items()])  # type: ignore[func-returns-value]  # fmt: skip  # noqa: E501
    with pytest.raises(RunError, match=r"has 13 photos, split\.csv 12: z\.jpg is not there"):
        compare([run], QUICK)


def test_a_probability_that_is_rounded_past_one_is_one(tmp_path: Path) -> None:
    P = [row[:] for row in GOOD]
    P[3][2] = float(np.nextafter(np.float32(1), np.float32(2)))
    compare([write_run(tmp_path / "a", configs={LINEAR: {**CONFIGS[LINEAR], "P": P}})], QUICK)


def test_a_photo_on_two_lines_of_the_split_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    with (run / "split.csv").open("a", newline="") as file:
        csv.writer(file).writerow(("a1.jpg", "", 0, "test"))
    with pytest.raises(RunError, match=r"a1\.jpg is on two lines, in part train and in part test"):
        compare([run], QUICK)


def test_labels_that_shared_a_name_are_fitted_and_compared(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path, photos=60)
    text = small.data.read_text().replace("neck,sleeve_length", "neck=v,neck").replace(",short", ",v=0").splitlines()
    small.data.write_text("\n".join(text) + "\n")
    fit = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=2, out=tmp_path / "run")
    run = fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), fit).run
    names = set(pq.read_schema(run / "labels.parquet").names)
    assert {"neck%3Dv=0", "neck=v=0"} < names
    best = compare([run], QUICK).best_candidate
    assert set(best.attributes) == {"neck=v", "neck"}


def test_files_from_before_names_were_escaped_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runfolder, "ATTRIBUTES", {"a=b": ["c", "d"], "style": ["plain", "casual", "sporty"]})
    monkeypatch.setattr(runfolder, "SINGLE", {"a=b": True, "style": False})
    rows = [(*row[:3], {"round": "c", "v": "d", None: None}[row[3]], row[4]) for row in runfolder.ROWS]
    run = write_run(tmp_path / "a", rows=rows, attributes=("a=b", "style"))
    assert "a=b=c" in pq.read_schema(run / "labels.parquet").names
    assert compare([run], QUICK).best_candidate.attributes == ("a=b", "style")


@pytest.mark.parametrize("name", ["run.json", "decisions.json"])
def test_whatever_a_json_file_holds_is_a_result_or_a_named_error(real: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(real, run)
    content = json.loads((run / name).read_text())
    refused = 0
    for seed in range(200):
        changed, what = mutated(content, seed)
        (run / name).write_text(json.dumps(changed))
        try:
            comparison = compare([run], QUICK)
            table(comparison)
            page_data(comparison)
            save_json(comparison, tmp_path / "c.json")
            save_csv(comparison, tmp_path / "c.csv")
        except RunError as error:
            refused += 1
            assert name in str(error) and len(str(error)) < 500, what
        except PipelineError:
            raise
        except Exception as error:
            raise AssertionError(f"mutation {seed} of {name}, {what}: {error!r}") from error
    assert refused > 20


@pytest.mark.parametrize("name", ["configs.csv", "history.csv", "dropped.csv", "neighbours.csv", "split.csv"])
def test_whatever_a_csv_file_holds_is_a_result_or_a_named_error(real: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(real, run)
    whole = (run / name).read_bytes()
    rng = np.random.default_rng(0)
    strange = [b"\0", b"\xff", b'"', b"\n", b",", b"9" * 400, b"nan", b"inf", b"../x", b"a" * 140_000, b"1e999", b""]
    for _ in range(40):
        at, length = int(rng.integers(len(whole))), int(rng.integers(0, 8))
        (run / name).write_bytes(whole[:at] + strange[int(rng.integers(len(strange)))] + whole[at + length :])
        try:
            comparison = compare([run], QUICK)
            page_data(comparison)
            save_json(comparison, tmp_path / "c.json")
        except RunError as error:
            assert str(run) in str(error)
