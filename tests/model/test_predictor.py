"""`Predictor` for programs: every form a photo may come in, one runtime, many threads, the command's own numbers."""

from __future__ import annotations

import http.server
import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline.errors import BadImage, ModelFileError, NotFetched, OptionError, TooCostly
from pipeline.features.backbone.network import load_backbone
from pipeline.features.embed import EmbedOptions, embed
from pipeline.features.runtimes import forward
from pipeline.features.runtimes.base import Runtime
from pipeline.model.file import read_model, save_model
from pipeline.model.predict import predict
from pipeline.model.predictor import LoadedModel, Predictor
from pipeline.options import PredictOptions
from pipeline.remote import http as fetch_module
from pipeline.remote import photo as photo_module
from pipeline.remote.http import fetch
from tests.model.test_predict import BACKBONE, EAGER, make_model, origin

__all__ = ["origin"]


@pytest.fixture(scope="module")
def model_path(origin: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "best.joblib"
    save_model(make_model(origin), path)
    return path


@pytest.fixture(scope="module")
def predictor(model_path: Path) -> Predictor:
    return Predictor(model_path, EAGER)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose formats keep every pixel, in every colour mode and way round; one JPEG; one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 255, (50, 40, 3), np.uint8))
    seethrough = colour.convert("RGBA")
    seethrough.putalpha(Image.fromarray(rng.integers(0, 255, (50, 40), np.uint8)))
    turned = Image.Exif()
    turned[0x0112] = 6
    colour.save(folder / "plain.png")
    colour.save(folder / "photo.jpg")
    colour.save(folder / "turned.png", exif=turned)
    seethrough.save(folder / "seethrough.png")
    seethrough.convert("LA").save(folder / "grey-seethrough.png")
    colour.convert("L").save(folder / "grey.png")
    colour.quantize(16).save(folder / "palette.png")
    Image.fromarray(rng.integers(0, 65535, (50, 40), np.uint16)).save(folder / "sixteen.png")
    (folder / "broken.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:300])
    return folder


def good(photos: Path) -> list[Path]:
    return [path for path in sorted(photos.iterdir()) if path.name != "broken.jpg"]


def test_the_numbers_are_those_of_the_command(photos: Path, model_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    predict([photos], model_path, replace(EAGER, out=out, probabilities=True, threshold="0.4"))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    predictor = Predictor(model_path, replace(EAGER, threshold="0.4"))
    paths = [photos / row["filename"] for row in rows]
    values = predictor.predict(paths, errors="return")
    chances = predictor.predict_proba(paths, errors="return")
    for row, value, chance in zip(rows, values, chances, strict=True):
        if row["filename"] == "broken.jpg":
            assert isinstance(value, BadImage) and isinstance(chance, BadImage)
            assert (row["neck"], row["style"]) == (None, None)
            continue
        assert not isinstance(value, BadImage) and not isinstance(chance, BadImage)
        assert value == {"neck": row["neck"], "style": row["style"]}
        if row["neck"] is not None:
            assert round(chance["neck"][row["neck"]], 6) == row["p:neck"]
        assert [round(chance["style"][v], 6) for v in row["style"] or []] == (row["p:style"] or [])
    assert any(isinstance(value, dict) and isinstance(value["style"], list) for value in values)


def test_features_are_those_of_the_backbone_one_view_after_the_other(photos: Path, predictor: Predictor) -> None:
    paths = good(photos)
    X = predictor.features(paths)
    feeding = EmbedOptions(device="cpu", runtime="torch", batch_size=4, workers=1)
    made = list(embed(paths, load_backbone(BACKBONE), ["pooled"], ["identity", "hflip"], feeding))
    views = [np.concatenate([batch.features["pooled", view] for batch in made]) for view in ("identity", "hflip")]
    assert X.dtype == np.float32
    assert np.array_equal(X, np.concatenate(views, axis=1))


def test_every_form_of_a_photo_gives_what_its_file_gives(photos: Path, predictor: Predictor) -> None:
    """Orientation, transparency, palettes and 16 bits are taken alike from a file, its bytes and an opened image."""
    paths = good(photos)
    expected = predictor.features(paths)
    with Image.open(photos / "plain.png") as opened:
        array = np.asarray(opened)
    forms = {
        "text": [str(path) for path in paths],
        "file URL": [path.as_uri() for path in paths],
        "bytes": [path.read_bytes() for path in paths],
        "memory": [memoryview(path.read_bytes()) for path in paths],
        "open files": [path.open("rb") for path in paths],
        "streams": [io.BytesIO(path.read_bytes()) for path in paths],
        "images": [Image.open(path) for path in paths],
    }
    for name, given in forms.items():
        assert np.array_equal(predictor.features(given), expected), name
    at = [path.name for path in paths].index("plain.png")
    assert np.array_equal(predictor.features(array), expected[[at]])
    assert np.array_equal(predictor.features([array[:, ::-1][:, ::-1]]), expected[[at]]), "any memory order"
    with Image.open(photos / "grey.png") as opened:
        grey = predictor.features(np.asarray(opened))
    assert np.array_equal(grey, expected[[[path.name for path in paths].index("grey.png")]])


def test_one_photo_or_several_give_a_list(photos: Path, predictor: Predictor) -> None:
    (alone,) = predictor.predict(photos / "plain.png")
    assert predictor.predict(path for path in [photos / "plain.png"] * 2) == [alone, alone]
    assert predictor.predict([]) == []
    assert predictor.features([]).shape == (0, 192)
    assert set(predictor.predict_proba(photos / "plain.png")[0]) == {"neck", "style"}  # type: ignore[arg-type]


def test_a_photo_that_cannot_be_taken_raises_or_stands_in_its_place(photos: Path, predictor: Predictor) -> None:
    given: list[Any] = [
        photos / "plain.png",
        photos / "broken.jpg",
        photos / "absent.jpg",
        b"",
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        io.StringIO("text"),
        Image.new("RGB", (0, 5)),
        photos,
    ]
    found = predictor.predict(given, errors="return")
    assert isinstance(found[0], dict)
    reasons = [str(each) for each in found[1:] if isinstance(each, BadImage)]
    assert reasons[0].startswith("damaged")
    assert reasons[1:] == [
        "No such file or directory",
        "empty file",
        "an array of float32 (4, 4); expected uint8 (h, w, 3), RGB, or (h, w)",
        "an array of uint8 (4, 4, 4); expected uint8 (h, w, 3), RGB, or (h, w)",
        "a file that is open as text; open it in binary mode, as in open(path, 'rb')",
        "an image of 0 x 5 pixels",
        "not a regular file",
    ]
    rows = predictor.features(given, errors="return")
    assert np.isfinite(rows[0]).all() and np.isnan(rows[1:]).all()
    with pytest.raises(BadImage, match=r"broken\.jpg: damaged"):
        predictor.predict_proba(given)
    with pytest.raises(BadImage, match="^photo 1: an array of float32"):
        predictor.features([photos / "plain.png", np.zeros((4, 4), np.float32)])
    with pytest.raises(TypeError, match="photo 1 is a int; expected a path, a URL, bytes"):
        predictor.predict([photos / "plain.png", 7])
    with pytest.raises(OptionError, match="errors is 'ignore'; it can be raise or return"):
        predictor.predict(photos / "plain.png", errors="ignore")  # type: ignore[arg-type]


def test_a_large_array_is_refused_as_a_large_photo_is(predictor: Predictor) -> None:
    wide = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (20_000, 20_000), (0, 0))
    with pytest.raises(TooCostly, match="too many pixels: 20000 x 20000"):
        predictor.predict(wide)


def test_backbone_and_runtime_are_built_once(photos: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    make = forward.make_runtime
    monkeypatch.setattr(forward, "make_runtime", lambda *args: built.append("runtime") or make(*args))
    from pipeline.features.backbone import network

    load = network.load_backbone
    monkeypatch.setattr(network, "load_backbone", lambda *args: built.append("backbone") or load(*args))
    loaded = pipeline.load_model(model_path)
    for _ in range(3):
        loaded.predict([photos / "plain.png"])
    loaded.predictor.predict(photos / "photo.jpg")
    assert built == ["backbone", "runtime"]
    shared = Predictor(model_path, EAGER)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(shared.predict, [photos / "plain.png"] * 8))
    assert built == ["backbone", "runtime"] * 2


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_threads_share_one_predictor_and_get_what_they_would_get_alone(
    photos: Path, model_path: Path, runtime: str
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    predictor = Predictor(model_path, replace(EAGER, runtime=runtime))
    paths = good(photos)
    requests = [[paths[(i + j) % len(paths)] for j in range(1 + i % 6)] for i in range(24)]
    alone = [predictor.features(request) for request in requests]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(predictor.features, requests))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_no_more_forward_passes_at_once_than_the_runtime_has_streams(
    photos: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(model_path, EAGER)
    predictor.predict(photos / "plain.png")
    running, most, lock = 0, 0, threading.Lock()
    call = Runtime.__call__

    def counted(self: Runtime, pixels: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return call(self, pixels)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(Runtime, "__call__", counted)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(predictor.features, [good(photos)] * 6))
    assert most == predictor.feature_source.embedder.runtime.streams == 1


def test_load_model_takes_what_the_predictor_takes(photos: Path, model_path: Path) -> None:
    loaded = LoadedModel(Predictor(model_path, EAGER))
    data = (photos / "plain.png").read_bytes()
    done = loaded.predict_photos([data, str(photos / "gr*.png"), Image.open(photos / "plain.png"), b"nonsense"])
    names = ["photo 0", str(photos / "grey-seethrough.png"), str(photos / "grey.png"), "photo 3", "photo 4"]
    assert done.frame["filename"].tolist() == names
    assert done.frame["neck"][0] == done.frame["neck"][3] != "#N/A"
    assert done.rejects == (("photo 4", "not an image in a known format"),)


class _Server(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/photo.png")
            self.end_headers()
        elif self.path == "/to-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif self.path in ("/photo.png", "/short"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content) + 9 * (self.path == "/short")))
            self.end_headers()
            self.wfile.write(self.content)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with_more = b"x" * 65536
            try:
                while True:
                    self.wfile.write(with_more)
            except OSError:
                pass
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(photos: Path) -> Iterator[str]:
    _Server.content = (photos / "plain.png").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_photo_may_be_named_by_a_url(photos: Path, predictor: Predictor, server: str) -> None:
    expected = predictor.features([photos / "plain.png"] * 2)
    assert np.array_equal(predictor.features([f"{server}/photo.png", f"{server}/moved"]), expected)


def test_what_does_not_come_is_named(predictor: Predictor, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "fetch", lambda url, limit, tag: fetch(url, limit=200_000, timeout=0.5))
    monkeypatch.setattr(photo_module, "ATTEMPTS", 1)
    silent = socket.create_server(("127.0.0.1", 0))
    closed = socket.create_server(("127.0.0.1", 0))
    place = closed.getsockname()[1]
    closed.close()
    urls = [f"{server}/{name}" for name in ("absent", "to-file", "short", "endless")]
    urls += [f"http://127.0.0.1:{silent.getsockname()[1]}/", f"http://127.0.0.1:{place}/", "http://[/", "file://host/a"]
    reasons = predictor.predict(urls, errors="return")
    silent.close()
    assert all(isinstance(reason, NotFetched) for reason in reasons)
    absent, to_file, short, endless, waited, refused, odd, other = map(str, reasons)
    assert absent == "the server answers 404 Not Found"
    assert to_file == "the server answers 302 Found"
    assert short == "the server stopped 9 bytes before its end"
    assert endless == "it has more than 200000 bytes, the most that are fetched"
    assert waited == "the server was silent for 0.5 seconds"
    assert refused.startswith("it cannot be reached: ")
    assert odd.startswith("it cannot be fetched: ")
    assert other == "a file:// URL names a file of this machine, as in file:///photos/a.jpg; found 'host'"


def test_a_server_that_drips_does_not_hold_a_photo_for_ever(server: str) -> None:
    with pytest.raises(NotFetched, match="it takes too long to come"):
        fetch(f"{server}/endless", limit=10**12, longest=0.2)


def test_the_default_options_are_the_commands(model_path: Path) -> None:
    assert Predictor(model_path).options == PredictOptions()


def test_load_model_in_a_loop_builds_its_backbone_once(
    photos: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.features.backbone import network

    built = []
    build = network.load_backbone
    monkeypatch.setattr(network, "load_backbone", lambda *args, **more: built.append(1) or build(*args, **more))
    path = tmp_path / "m.joblib"
    path.write_bytes(model_path.read_bytes())
    tables = [pipeline.load_model(path).predict([photos / "plain.png"]) for _ in range(3)]
    assert len(built) == 1 and tables[0].equals(tables[2])
    save_model(read_model(model_path) | {"info": {"measured": "elsewhere"}}, path)
    assert any("measured elsewhere" in note for note in pipeline.load_model(path).predictor.notes)
    path.unlink()
    with pytest.raises(ModelFileError, match="no model file"):
        pipeline.load_model(path)
