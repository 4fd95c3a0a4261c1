"""Photos by URL and workers of a cluster: each is read once, by a worker, and the driver learns what it holds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureCache
from pipeline.catalogue import read_catalogue
from pipeline.cli.main import main
from pipeline.cluster.engine import ClusterEngine
from pipeline.errors import RemoteError
from pipeline.features.extract import ExtractReport, extract
from pipeline.options import BackboneOptions, DataOptions, ExtractOptions
from tests.cluster.crews import HereCrew, Mortal, Poisoned
from tests.remote.conftest import png
from tests.remote.server import BUCKET, Objects

pytestmark = pytest.mark.usefixtures("one_thread")

BACKBONE = BackboneOptions(backbone="test_resnet", weights="random:0", size=32, resize="squash")
PHOTOS = 70
"""Two units: each of two workers gets one."""


@pytest.fixture
def data(bucket: Objects, tmp_path: Path) -> DataOptions:
    """A table of 70 photos in a bucket; photo 20 has the bytes of photo 1, and the last those of the first."""
    same = {20: 1, PHOTOS - 1: 0}
    for number in range(PHOTOS):
        bucket.put(f"shop/{number:02}.png", png(same.get(number, number)))
    rows = "".join(f"{number:02}.png,{'light' if number % 2 else 'dark'}\n" for number in range(PHOTOS))
    (tmp_path / "data.csv").write_text("filename,tone\n" + rows)
    return DataOptions(tmp_path / "data.csv", images=f"s3://{BUCKET}/shop")


@pytest.fixture
def run(data: DataOptions, tmp_path: Path):
    def call(cache: str, crew=HereCrew, local: bool = False, **changes: object) -> ExtractReport:
        chosen = {"cache": tmp_path / cache, "runtime": "torch", "device": "cpu", "batch_size": 8, **changes}
        engine = None if local else ClusterEngine(crew)
        return extract(read_catalogue(data).paths, BACKBONE, ExtractOptions(**chosen), engine=engine)  # type: ignore[arg-type]

    return call


def test_rows_and_report_are_those_of_this_process_and_a_second_run_reads_none(
    bucket: Objects, run, tmp_path: Path
) -> None:
    bucket.put("shop/03.png", b"no photo")
    bucket.put("shop/60.png", b"no photo")
    bucket.vanished.add("shop/08.png")
    ours = run("ours", local=True)
    read = bucket.count("GET")
    theirs = run("theirs")
    assert bucket.count("GET") == 2 * read == 2 * PHOTOS
    told = ("photos", "unique", "duplicates", "reused", "written", "rejects", "extended", "left")
    assert {name: getattr(theirs, name) for name in told} == {name: getattr(ours, name) for name in told}
    assert (theirs.written, theirs.duplicates, len(theirs.rejects)) == (65, 3, 3)
    readers = [FeatureCache(tmp_path / name).reader(ours.key) for name in ("ours", "theirs")]
    column = readers[0].columns
    ids = np.sort(readers[0].ids(column[0]))
    np.testing.assert_array_equal(ids, np.sort(readers[1].ids(column[0])), "each content once")
    np.testing.assert_array_equal(*(reader.read(ids, column) for reader in readers))
    again = run("theirs")
    assert (again.written, again.reused, len(again.rejects)) == (0, 65, 3)
    assert bucket.count("GET") == 2 * PHOTOS + 1, "only the photo that did not come is asked for again"


def test_contents_that_the_cache_has_or_that_were_rejected_are_read_and_not_computed(
    bucket: Objects, run, tmp_path: Path
) -> None:
    bucket.put("shop/03.png", b"no photo")
    run("theirs")
    for number in range(PHOTOS):
        bucket.put(f"shop/{number:02}.png", bucket.held[f"shop/{number:02}.png"][0], when=1_800_000_000.0)
    again = run("theirs")
    assert (again.written, again.reused, again.duplicates) == (0, 67, 2)
    assert [Path(str(reject.path)).name for reject in again.rejects] == ["03.png"]
    assert bucket.count("GET") == 2 * PHOTOS


def test_what_two_workers_computed_counts_once(run, tmp_path: Path) -> None:
    """Neither sees what the other has committed, as where both are at it at once."""

    def behind(setup):
        return HereCrew(replace(setup, options=replace(setup.options, cache=tmp_path / "elsewhere")))

    report = run("theirs", behind)
    assert (report.unique, report.written, report.reused) == (68, 68, 0)
    there = FeatureCache(tmp_path / "theirs").verify(deep=True)
    assert (there.problems, there.rows, there.duplicate_rows) == ((), 69, 1)


def test_a_photo_that_ends_its_workers_is_known_by_its_content_and_not_given_out_again(
    bucket: Objects, data: DataOptions, run, tmp_path: Path
) -> None:
    bucket.put("shop/poison.png", png(1000))
    assert data.data is not None
    with Path(data.data).open("a") as table:
        table.write("poison.png,dark\n")
    report = run("theirs", partial(HereCrew, kind=Poisoned))
    assert (report.written, [str(reject.path) for reject in report.rejects]) == (68, [f"s3://{BUCKET}/shop/poison.png"])
    before = bucket.count("GET")
    again = run("theirs", partial(HereCrew, kind=Mortal))
    assert (again.written, again.reused, again.rejects, bucket.count("GET")) == (0, 68, report.rejects, before)


def test_a_bucket_that_closes_ends_the_job_with_its_error(bucket: Objects, run) -> None:
    bucket.denied |= {f"shop/{number:02}.png" for number in range(40, PHOTOS)}
    with pytest.raises(RemoteError, match=f"s3://{BUCKET}: permission denied"):
        run("theirs")
    bucket.denied.clear()
    report = run("theirs")
    assert (report.written + report.reused, report.rejects) == (68, ())
    assert report.reused == 34, "the unit that was committed before"


def test_a_part_is_told_from_the_name_in_the_table_wherever_the_photos_lie(
    bucket: Objects, data: DataOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    for key, (content, _) in bucket.held.items():
        (tmp_path / "files" / Path(key).name).write_bytes(content)

    def part(images: str, number: int, cache: str) -> str:
        words = ["--data", str(data.data), "--images", images, "--cache", str(tmp_path / cache)]
        kind = ["--backbone", "test_resnet", "--weights", "random:0", "--size", "32", "--runtime", "torch"]
        assert main(["extract", *words, *kind, "--part", f"{number}/2"]) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("part "))

    url = f"s3://{BUCKET}/shop"
    there = [part(url, number, f"there-{number}") for number in (1, 2)]
    assert there == [part(str(tmp_path / "files"), number, f"here-{number}") for number in (1, 2)]
    assert bucket.count("GET") == PHOTOS, "each in one part"
    for number in (1, 2):
        ids = []
        for name in (f"there-{number}", f"here-{number}"):
            cache = FeatureCache(tmp_path / name)
            (info,) = cache.keys()
            ids.append(sorted(cache.reader(info.digest).ids(info.columns[0])))
        assert ids[0] == ids[1]
