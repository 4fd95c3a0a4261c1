from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cache import FeatureCache
from pipeline.options import BackboneOptions, ExtractOptions

BACKBONE = BackboneOptions(backbone="test_resnet", weights="random:0", size=32)


@pytest.fixture
def photos(tmp_path):
    """Writes so many photos of noise, all different; the last is none."""

    def write(count, **renamed):
        folder = tmp_path / "photos"
        folder.mkdir()
        rng, paths = np.random.default_rng(0), []
        for number in range(count):
            path = folder / f"{renamed.get(f'n{number}', number)}.png"
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
            paths.append(path)
        paths[-1].write_bytes(b"no photo")
        return paths

    return write


@pytest.fixture
def options(tmp_path):
    return lambda name: ExtractOptions(cache=tmp_path / name, runtime="torch", device="cpu", batch_size=8, workers=1)


@pytest.fixture
def assert_same(tmp_path):
    """Two caches have the same rows of one key, bit for bit, and `verify` finds nothing."""

    def same(one, other):
        rows = []
        for name in (one, other):
            cache = FeatureCache(tmp_path / name)
            assert cache.verify(deep=True).problems == ()
            (info,) = cache.keys()
            reader = cache.reader(info.digest)
            ids = np.sort(reader.ids(info.columns[0]))
            rows.append((info.digest, ids, reader.read(ids, info.columns)))
        assert rows[0][0] == rows[1][0]
        np.testing.assert_array_equal(rows[0][1], rows[1][1])
        np.testing.assert_array_equal(rows[0][2], rows[1][2])

    return same
