"""Small keys, ids and vectors for the tests of the cache, and a back door that reads shards with h5py alone."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import h5py
import numpy as np

from cache import BaseKey, Block, Column, FeatureCache, WriterOptions, id_array
from cache.probe import Probe, describe


class InProcess(Probe):
    """Opens shards in this process: many checks of files that cannot hang the HDF5 library need no child."""

    def ask(self, path: Path) -> dict[str, object]:
        return describe(str(path))


KEY = BaseKey(
    weights_sha256="ab" * 32,
    architecture="resnet18",
    size=224,
    fit="squash",
    interpolation="bicubic",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    pixel_policy=1,
    decoder="pillow",
    precision="fp32",
)
OTHER_KEY = dataclasses.replace(KEY, weights_sha256="cd" * 32)
POOLED = Column(Block("pooled", 8))
FLIPPED = Column(Block("pooled", 8), "hflip")
GRID = Column(Block("grid", 12, {"rows": 2, "columns": 2}))


def make_ids(count: int, start: int = 0) -> np.ndarray:
    return id_array(hashlib.sha256(f"photo {number}".encode()).digest() for number in range(start, start + count))


def vectors(ids: np.ndarray, column: Column = POOLED) -> np.ndarray:
    """The one right answer for each id: float32 (n, d), different for every id, column and position."""
    salt = int.from_bytes(hashlib.sha256(column.name.encode()).digest()[:3], "little")
    words = np.ascontiguousarray(ids).view(np.uint8).reshape(-1, 32).astype(np.float32)
    places = range(column.block.dim)
    return np.stack([words[:, (7 * at) % 32] + words[:, (at + 3) % 32] / 512 + salt % 97 for at in places], axis=1)


def fill(root: Path, ids: np.ndarray, columns=(POOLED,), key: BaseKey = KEY, **options) -> FeatureCache:
    cache = FeatureCache(root)
    with cache.writer(key, options=WriterOptions(**options)) as writer:
        writer.append(ids, {column: vectors(ids, column) for column in columns})
    return cache


def folder_of(root: Path, key: BaseKey = KEY) -> Path:
    return root / key.digest[:16]


def shard_files(root: Path, column: Column = POOLED, key: BaseKey = KEY) -> list[Path]:
    """Shards of a column in order of writing."""
    return sorted(folder_of(root, key).glob(f"{column.block.name}-{column.view}-*.h5"))


def raw_rows(root: Path, column: Column = POOLED, key: BaseKey = KEY) -> dict[bytes, np.ndarray]:
    """Every row of a column as plain h5py sees it; a row that lies twice must be equal."""
    rows: dict[bytes, np.ndarray] = {}
    for path in shard_files(root, column, key):
        with h5py.File(path, "r") as file:
            for content, features in zip(file["ids"][:], file["features"][:], strict=True):
                first = rows.setdefault(content.tobytes(), features)
                np.testing.assert_array_equal(first, features)
    return rows


def assert_exact(root: Path, ids: np.ndarray, column: Column = POOLED, key: BaseKey = KEY) -> None:
    """The cache holds exactly these rows, bit for bit, by the back door."""
    rows = raw_rows(root, column, key)
    expected = vectors(ids, column)
    assert set(rows) == {content.tobytes() for content in ids.view(np.uint8).reshape(-1, 32)}
    for content, features in zip(ids.view(np.uint8).reshape(-1, 32), expected, strict=True):
        np.testing.assert_array_equal(rows[content.tobytes()], features)


def unexpected_files(root: Path) -> list[str]:
    """Everything in the cache folder, quarantine aside, that should not be there when nobody writes."""
    odd = []
    for path in (path for path in root.rglob("*") if (root / "quarantine") not in (path, *path.parents)):
        fine = path.is_dir() or path.suffix == ".h5" or path.name in {"key.json", "lock", "README.txt", "files.sqlite"}
        fine |= path.parent.parent.name == "runtimes" and path.name in {"model.xml", "model.bin", "seal.json"}
        fine |= path.parent.name == "runtimes" and path.suffix == ".json"
        if not fine or path.name.startswith((".tmp-", ".converting-")):
            odd.append(str(path.relative_to(root)))
    return odd
