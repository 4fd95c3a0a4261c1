"""One server of two tiny models for all tests that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.features.backbone.network import base_key, load_backbone
from pipeline.model.file import FeatureOrigin, save_model
from pipeline.options import ServeOptions
from tests.model.test_predict import BACKBONE, make_model
from tests.serving.served import Running, jpeg, needed, serving

TINY = ServeOptions(
    port=0,
    device="cpu",
    runtime="torch",
    batch_size=4,
    workers=2,
    queue=64,
    max_bytes=2**20,
    max_pixels=10**6,
    max_photos=16,
    request_timeout=5.0,
)


@pytest.fixture(scope="package")
def tiny_model() -> dict[str, Any]:
    backbone = load_backbone(BACKBONE)
    key, block = base_key(backbone), backbone.blocks(["pooled"])["pooled"]
    blocks = [{"name": "pooled", "dim": block.dim, "digest": block.digest(key)}]
    return make_model(FeatureOrigin(blocks, key.to_json(), "random:0", ("identity", "hflip")))


@pytest.fixture(scope="package")
def model_path(tiny_model: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "best.joblib"
    save_model(tiny_model, path)
    return path


@pytest.fixture(scope="package")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose photos may be named, with links that lead out of it and to themselves."""
    folder, outside = tmp_path_factory.mktemp("album"), tmp_path_factory.mktemp("outside") / "secret.jpg"
    (folder / "more").mkdir()
    (folder / "a.jpg").write_bytes(jpeg(1))
    (folder / "more" / "b c.png").write_bytes(jpeg(2, kind="PNG"))
    outside.write_bytes(jpeg(3))
    (folder / "link.jpg").symlink_to(outside)
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    return folder


@pytest.fixture(scope="package")
def server(model_path: Path, album: Path) -> Iterator[Running]:
    needed()
    models = (str(model_path), f"second={model_path}")
    with serving(replace(TINY, model=models, allow_paths=album)) as running:
        yield running
