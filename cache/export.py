"""One plain file out of a cache, for code that knows nothing of it: HDF5 or NumPy's .npz."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache.durable import make_folder, temporary
from cache.errors import CacheError
from cache.ids import Ids, as_ids, ids_to_hex
from cache.joined import JoinedReader
from cache.key import canonical_json

_BATCH = 1024


@dataclass(frozen=True)
class Selection:
    """Which rows to export.

    Attributes:
        ids: Content ids of the rows in order, S32 (n,); None for every row that all columns hold.
        filenames: One per row; None to name rows by content id.
    """

    ids: Ids | None = None
    filenames: Sequence[str | Path] | None = None


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The file.
        rows: Rows in it.
        dim: Length of a row.
        left_out: Contents that have vectors under a key, or photos that were asked for, and have no row.
        notes: What whoever chose the rows has to say of them.
    """

    path: Path
    rows: int
    dim: int
    left_out: int = 0
    notes: tuple[str, ...] = ()


def export_h5(reader: JoinedReader, selection: Selection, out: Path | str) -> ExportReport:
    """Write `features` (n, d) float32 and `filename` (n,) (or `content` (n,), 64 hex digits) to one HDF5 file.

    Memory does not grow with n, but for the names. The file appears whole or not at all.

    Args:
        reader: Of the columns that are written, side by side.
        selection: Which rows.
        out: The file.

    Returns:
        What was written.

    Raises:
        MissingRows: A row is not in the cache.
        CacheWriteError: The disk refuses.
    """
    import h5py

    table = _prepare(reader, selection, out)
    with temporary(table.path, table.bytes) as unfinished:
        _require_space(table.path.parent, table.bytes)
        with h5py.File(unfinished, "w", libver="earliest") as file:
            keys = [canonical_json(key.to_json()) for key in reader.keys]
            file.attrs.update({"key": keys[0]} if len(keys) == 1 else {"keys": keys})
            file.attrs["columns"], file.attrs["dims"] = list(reader.names), list(reader.dims)
            file.create_dataset(table.label, data=table.names, dtype=h5py.string_dtype("utf-8"))
            place = _reserve(file, len(table.ids), table.dim)
        # HDF5 has only reserved the space. Writing it ourselves makes a full disk a plain error, not a broken library.
        with unfinished.open("r+b", buffering=0) as raw:
            raw.seek(place)
            for batch in reader.batches(table.ids, _BATCH):
                _write_all(raw.fileno(), memoryview(batch.reshape(-1).view(np.uint8).data))
            os.fsync(raw.fileno())
    return ExportReport(table.path, len(table.ids), table.dim)


def export_npz(reader: JoinedReader, selection: Selection, out: Path | str) -> ExportReport:
    """Write the same as `export_h5` to an uncompressed .npz that `numpy.load` reads without pickle.

    Args:
        reader: Of the columns that are written, side by side.
        selection: Which rows.
        out: The file.

    Returns:
        What was written.

    Raises:
        MissingRows: A row is not in the cache.
        CacheWriteError: The disk refuses.
    """
    table = _prepare(reader, selection, out)
    with temporary(table.path, table.bytes) as unfinished, unfinished.open("wb") as raw:
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("features.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(table.ids), table.dim)}
                np.lib.format.write_array_header_1_0(member, header)
                for batch in reader.batches(table.ids, _BATCH):
                    member.write(batch.tobytes())
            with archive.open(f"{table.label}.npy", "w", force_zip64=True) as member:
                texts = np.array([name.decode("utf-8", "replace") for name in table.names], dtype=np.str_)
                np.lib.format.write_array(member, texts, allow_pickle=False)
        raw.flush()
        os.fsync(raw.fileno())
    return ExportReport(table.path, len(table.ids), table.dim)


@dataclass(frozen=True)
class _Table:
    """What either writer writes: rows of `dim` float32 in the order of `ids`, with their names under `label`."""

    path: Path
    ids: Ids
    dim: int
    label: str
    names: list[bytes]

    @property
    def bytes(self) -> int:
        return 4 * self.dim * len(self.ids)


def _prepare(reader: JoinedReader, selection: Selection, out: Path | str) -> _Table:
    path = Path(out)
    make_folder(path.parent)
    ids = as_ids(selection.ids) if selection.ids is not None else reader.ids()
    if selection.filenames is None:
        return _Table(path, ids, reader.dim, "content", [text.encode("ascii") for text in ids_to_hex(ids)])
    if len(selection.filenames) != len(ids):
        raise CacheError(f"{len(selection.filenames)} filenames for {len(ids)} rows; expected one each")
    return _Table(path, ids, reader.dim, "filename", [os.fsencode(name) for name in selection.filenames])


def _reserve(file: Any, rows: int, dim: int) -> int:
    """Make the dataset `features`, contiguous and not filled; returns where its bytes begin."""
    from h5py import h5d, h5p, h5s, h5t

    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    space = h5s.create_simple((rows, dim))
    dataset = h5d.create(file.id, b"features", h5t.IEEE_F32LE, space, dcpl=properties)
    return int(dataset.get_offset()) if rows else 0


def _require_space(folder: Path, needed: int) -> None:
    """Refuse before the HDF5 library starts a file that cannot fit: it does not take a full disk well."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write_all(descriptor: int, left: memoryview) -> None:
    while left:
        left = left[os.write(descriptor, left) :]
