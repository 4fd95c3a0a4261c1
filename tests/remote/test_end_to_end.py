"""From a bucket to predictions: each photo is read once, a second run reads none, what goes wrong is said."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from cache import FeatureCache
from pipeline.catalogue import read_catalogue
from pipeline.cli.main import main
from pipeline.errors import RemoteError
from pipeline.features.backbone.network import load_backbone
from pipeline.features.embed import Embedder, EmbedOptions
from pipeline.features.extract import ExtractReport, extract
from pipeline.options import BackboneOptions, DataOptions, ExtractOptions
from pipeline.remote import RemotePhoto, Stamp
from tests.remote.conftest import png
from tests.remote.server import BUCKET, Objects

pytestmark = pytest.mark.usefixtures("one_thread")

BACKBONE = BackboneOptions(backbone="test_resnet", weights="random:0", size=32, resize="squash")
PHOTOS = 24


@pytest.fixture
def data(bucket: Objects, tmp_path: Path) -> DataOptions:
    """A table of 24 photos in a bucket, the last with the bytes of the first."""
    for number in range(PHOTOS):
        bucket.put(f"shop/{number:02}.png", png(number if number < PHOTOS - 1 else 0))
    rows = "".join(f"{number:02}.png,{'light' if number % 2 else 'dark'}\n" for number in range(PHOTOS))
    (tmp_path / "data.csv").write_text("filename,tone\n" + rows)
    return DataOptions(tmp_path / "data.csv", images=f"s3://{BUCKET}/shop")


@pytest.fixture
def run(data: DataOptions, tmp_path: Path):
    def call(**changes: object) -> ExtractReport:
        chosen = {"cache": tmp_path / "features", "runtime": "torch", "device": "cpu", "batch_size": 4, **changes}
        return extract(read_catalogue(data).paths, BACKBONE, ExtractOptions(**chosen))  # type: ignore[arg-type]

    return call


def test_each_photo_is_read_once_and_a_second_run_reads_none(bucket: Objects, run, tmp_path: Path, data) -> None:
    first = run()
    assert (first.photos, first.unique, first.written, first.duplicates) == (24, 23, 23, 1)
    assert bucket.count("GET") == PHOTOS and bucket.count("HEAD") == 0
    again = run()
    assert (again.unique, again.reused, again.written, again.rejects) == (23, 23, 0, ())
    assert bucket.count("GET") == PHOTOS
    bucket.put("shop/05.png", png(99))
    bucket.put("shop/06.png", png(6), when=1_700_000_500.0)
    third = run()
    assert (third.written, third.reused, bucket.count("GET")) == (1, 22, PHOTOS + 2), "only another version is read"
    wider = run(views=("identity", "hflip"))
    assert (wider.written, wider.extended, bucket.count("GET")) == (23, 23, 2 * PHOTOS + 1)


def test_only_so_many_are_read_to_learn_how_fast_they_go(bucket: Objects, data: DataOptions, tmp_path: Path) -> None:
    options = ExtractOptions(cache=tmp_path / "features", runtime="torch", device="cpu", batch_size=4)
    first = extract(read_catalogue(data).paths, BACKBONE, options, most=5)
    assert (first.written, first.left, bucket.count("GET")) == (5, PHOTOS - 5, 5)


def test_the_vectors_are_those_of_the_same_files(bucket: Objects, run, tmp_path: Path) -> None:
    report = run()
    folder = tmp_path / "files"
    folder.mkdir()
    paths = [folder / f"{number:02}.png" for number in range(PHOTOS)]
    for path in paths:
        path.write_bytes(bucket.held[f"shop/{path.name}"][0])
    options = ExtractOptions(cache=tmp_path / "local", runtime="torch", device="cpu", batch_size=4)
    extract(paths, BACKBONE, options)
    remote, local = (FeatureCache(tmp_path / name).reader(report.key) for name in ("features", "local"))
    column = local.columns
    ids = local.ids(column[0])
    assert (remote.read(ids, column) == local.read(ids, column)).all() and set(ids) == set(remote.ids(column[0]))
    known = extract(paths, BACKBONE, ExtractOptions(cache=tmp_path / "features", runtime="torch", device="cpu"))
    assert known.written == 0, "a content is the same wherever it lies"


def test_photos_that_fill_the_budget_of_reading_ahead_before_a_batch_does_are_computed(
    objects: Objects,
) -> None:
    for number in range(12):
        objects.put(f"{number}.png", png(number))
    # Listed with 60 MiB each, five of them are more than is read ahead.
    photos = [RemotePhoto(f"{objects.url}/{n}.png", f"{n}", Stamp(60 * 2**20, 1, "")) for n in range(12)]
    embedder = Embedder(load_backbone(BACKBONE), ("pooled",), ("identity",), EmbedOptions("cpu", "torch", workers=2))
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.extend(len(batch.ids) for batch in embedder(photos)), daemon=True)
    thread.start()
    thread.join(60)
    assert sum(done) == 12


def test_bad_and_lost_photos_are_rejects_and_those_that_did_not_come_are_tried_again(bucket: Objects, run) -> None:
    bucket.put("shop/03.png", b"no photo")
    bucket.put("shop/04.png", b"no photo")
    bucket.vanished.add("shop/08.png")
    bucket.fails["shop/09.png"] = 10**6
    bucket.slow["shop/02.png"] = 0.3
    bucket.fails["shop/10.png"] = 2
    report = run()
    why = {Path(str(reject.path)).name: reject.reason for reject in report.rejects}
    assert sorted(why) == ["03.png", "04.png", "08.png", "09.png"] and report.written == 19
    assert "no such object" in why["08.png"] and "500" in why["09.png"] and why["03.png"] == why["04.png"]
    assert str(report.rejects[0].path) == f"s3://{BUCKET}/shop/03.png"
    bucket.vanished.clear()
    bucket.fails.clear()
    before = bucket.count("GET")
    again = run()
    assert (again.written, len(again.rejects), bucket.count("GET") - before) == (2, 2, 2)


def test_a_bucket_that_closes_midway_ends_with_one_error_and_what_was_computed_is_kept(bucket: Objects, run) -> None:
    bucket.denied |= {f"shop/{number:02}.png" for number in range(16, PHOTOS)}
    with pytest.raises(RemoteError, match=f"s3://{BUCKET}: permission denied"):
        run()
    before = bucket.count("GET")
    bucket.denied.clear()
    report = run()
    assert report.written + report.reused == 23 and report.reused >= 4
    assert bucket.count("GET") - before == PHOTOS - report.reused - report.duplicates + 1


def test_from_a_bucket_to_predictions_by_commands(
    bucket: Objects, data: DataOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: object) -> str:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out + said.err

    where = ["--data", data.data, "--images", f"s3://{BUCKET}/shop", "--cache", tmp_path / "features"]
    kind = ["--backbone", "test_resnet", "--weights", "random:0", "--size", 32, "--resize", "squash"]
    said = command("extract", *where, *kind, "--runtime", "torch")
    assert "24 photos, 23 distinct contents: 23 computed" in said
    run, out = tmp_path / "run", tmp_path / "predictions.csv"
    heads = ["--heads", "linear", "--optimizers", "adam", "--lr", 0.1, "--epochs", 20, "--out", run]
    said += command("fit-heads", *where, *kind, *heads)
    tested = sum(line.count(",test") for line in (run / "split.csv").read_text().splitlines())
    assert bucket.count("GET") == PHOTOS + tested, "fit-heads reads the test photos, for their thumbnails"
    model = ["--model", run / "models" / "best.joblib", "--runtime", "torch", "--out", out]
    said += command("predict", f"s3://{BUCKET}/shop/", *model, "--cache", tmp_path / "features")
    assert bucket.count("GET") == PHOTOS + tested, "all vectors are in the cache"
    web = f"{bucket.url}/{BUCKET}/shop/01.png"
    said += command("predict", f"s3://{BUCKET}/shop/00.png", f"{web}?sig=hush", f"s3://{BUCKET}/shop/none.png", *model)
    lines = out.read_text().splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == [
        f"s3://{BUCKET}/shop/00.png",
        web,
        f"s3://{BUCKET}/shop/none.png",
    ]
    assert "no such object" in said and "1 rejected" in said
    evaluated = command(
        "evaluate", *where[:4], *model[:2], "--runtime", "torch", "--out", tmp_path / "e", "--include-fitted"
    )
    info = json.loads((run / "run.json").read_text())
    assert info["options"]["data"]["images"] == f"s3://{BUCKET}/shop"
    for text in (said, evaluated, out.read_text(), (run / "run.json").read_text()):
        assert "hush" not in text and "not-so-secret" not in text
