"""Check a cache without trusting it, without writing to it and without a lock: whoever writes is not disturbed."""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.attached import SUFFIX, AttachedDamaged, read_attached
from cache.durable import abandoned_files
from cache.errors import CacheBusy, CacheError, CacheReadError, NotAFile, ShardDamaged
from cache.folder import KeyCheck, KeyFolder, KeyState, old_layout_text
from cache.ids import IdIndex, Ids
from cache.index import INDEX_NAME, IndexDamaged, check_index
from cache.key import BaseKey
from cache.probe import Probe
from cache.quarantine import quarantined
from cache.regular import entries, opened
from cache.shard import ShardName
from cache.stored import Shard

_CHUNK = 4 * 1024 * 1024


class ProblemKind(enum.StrEnum):
    """What is not as it should be, and with it what a repair does."""

    DAMAGED = "damaged"  # a shard or set of ids that was read and is wrong: to quarantine
    WRONG_KEY = "wrong-key"  # a whole shard of another key: to quarantine
    KEY_FILE = "key-file"  # key.json is missing or wrong and the shards tell the key: written again from them
    NO_KEY = "no-key"  # a folder whose key nothing tells, though all of it was read: to quarantine
    INDEX = "index"  # files.sqlite is wrong: to quarantine, and rebuilt when it is next needed
    TEMPORARY = "temporary-file"  # what a killed process had not finished: removed
    OLD_LAYOUT = "old-layout"  # another layout version's folder: left to `prune`
    UNREADABLE = "unreadable"  # nothing is known of it: left alone


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    Attributes:
        kind: What.
        path: Where.
        detail: Why it is thought so.
        rows: Rows lost by dropping it.
    """

    kind: ProblemKind
    path: Path
    detail: str
    rows: int = 0


@dataclass(frozen=True)
class VerifyReport:
    """What a check saw.

    Attributes:
        deep: Whether every byte was read.
        keys: Folders of keys.
        shards: Sound shards; `rows` and `bytes` are theirs.
        rows: Rows in them, counted once per column.
        bytes: Their size on disk.
        duplicate_rows: Rows that lie in two shards: harmless, `compact` joins them.
        problems: What is not as it should be.
        quarantined: Files that earlier repairs moved to quarantine.
    """

    deep: bool
    keys: int
    shards: int
    rows: int
    bytes: int
    duplicate_rows: int
    problems: tuple[Problem, ...]
    quarantined: int = 0

    @property
    def ok(self) -> bool:
        """True if there is nothing to repair."""
        return not self.problems


@dataclass
class _Totals:
    shards: int = 0
    rows: int = 0
    bytes: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class _ShardCheck:
    """How each shard is checked, and what those that are sound add up to."""

    deep: bool
    probe: Probe
    totals: _Totals


def verify(root: Path, deep: bool = False, probe: Probe | None = None) -> VerifyReport:
    """Check names, sizes, keys, ids and their checksums, the index, and that the HDF5 library can open each shard.

    Args:
        root: The cache.
        deep: Also read every byte and compare it with the SHA-256 in the file's name.
        probe: The child process that opens files with the HDF5 library.

    Returns:
        Totals and problems.

    Raises:
        CacheReadError: The cache's folder itself cannot be listed.
    """
    totals = _Totals()
    problems = _strays(abandoned_files(root)) + check_index_file(root / INDEX_NAME)
    folders = KeyFolder.all(root)
    with probe or Probe() as child:
        check = _ShardCheck(deep, child, totals)
        for folder in folders:
            problems += _check_folder(folder, check)
    return VerifyReport(
        deep,
        len(folders),
        totals.shards,
        totals.rows,
        totals.bytes,
        totals.duplicates,
        tuple(problems),
        len(quarantined(root)),
    )


def _check_folder(folder: KeyFolder, check: _ShardCheck) -> list[Problem]:
    try:
        names = folder.shard_names()
        problems = _strays(folder.abandoned_files())
        key = folder.check_key()
        problems += check_key_file(folder, key)
        for path in sorted(entry for entry in entries(folder.path) if entry.suffix == SUFFIX):
            problems += check_attached(path)
    except CacheReadError as error:
        return [Problem(ProblemKind.UNREADABLE, folder.path, error.what)]
    if key.key is not None:
        problems += _check_shards(folder, names, key.key.base, check)
    return problems


def _check_shards(
    folder: KeyFolder, names: Sequence[ShardName], base: BaseKey, check: _ShardCheck
) -> Iterator[Problem]:
    totals = check.totals
    sound: dict[str, list[Ids]] = {}
    for name in names:
        try:
            result = check_shard(folder.path / name.text, base, check.deep, check.probe)
            if isinstance(result, Problem):
                yield result
                continue
            totals.bytes += (folder.path / name.text).stat().st_size
        except FileNotFoundError:  # compacted away meanwhile
            continue
        sound.setdefault(name.column, []).append(result)
        totals.shards += 1
        totals.rows += len(result)
    for parts in sound.values():
        totals.duplicates += int(IdIndex(np.concatenate(parts)).duplicates().sum())


def check_key_file(folder: KeyFolder, check: KeyCheck) -> list[Problem]:
    """What is wrong with a folder's key.json, or with the whole folder when nothing tells its key."""
    if check.state is KeyState.OTHER_LAYOUT:
        text = old_layout_text(folder.path.parent, [folder.path.name], check.layout)
        return [Problem(ProblemKind.OLD_LAYOUT, folder.path, text)]
    if check.state is KeyState.SOUND or folder.is_empty(check):
        return []
    if check.state is KeyState.UNREADABLE:
        return [Problem(ProblemKind.UNREADABLE, folder.key_path, check.detail)]
    if check.key is not None:
        return [Problem(ProblemKind.KEY_FILE, folder.key_path, f"{check.detail}; the shards still tell the key")]
    if check.unreadable:
        text = f"of key.json: {check.detail}; shards that may tell the key cannot be read"
        return [Problem(ProblemKind.UNREADABLE, folder.path, text)]
    rows = sum(name.rows for name in folder.shard_names())
    return [Problem(ProblemKind.NO_KEY, folder.path, f"of key.json: {check.detail}; no shard tells the key", rows)]


def check_attached(path: Path) -> list[Problem]:
    """What is wrong with a set of ids."""
    try:
        read_attached(path)
    except AttachedDamaged as error:
        return [Problem(ProblemKind.DAMAGED, path, str(error))]
    except CacheReadError as error:
        return [Problem(ProblemKind.UNREADABLE, path, error.what)]
    return []


def check_index_file(path: Path) -> list[Problem]:
    """What is wrong with the index of files; one that is in use is not looked into."""
    try:
        check_index(path)
    except (IndexDamaged, NotAFile) as error:
        return [Problem(ProblemKind.INDEX, path, f"{error}; it is rebuilt when it is next needed")]
    except CacheBusy:
        return []
    except CacheError as error:
        return [Problem(ProblemKind.UNREADABLE, path, str(error))]
    return []


def check_shard(path: Path, base: BaseKey, deep: bool, probe: Probe) -> Ids | Problem:
    """Check one shard of a key.

    Args:
        path: The shard.
        base: The key it must belong to.
        deep: Whether to read every byte.
        probe: Opens it with the HDF5 library.

    Returns:
        Its content ids, S32 (n,), or what is wrong with it.

    Raises:
        FileNotFoundError: It is gone.
    """
    name = ShardName.parse(path.name)
    rows = name.rows if name else 0
    try:
        return _sound_ids(path, base, deep, probe)
    except ShardDamaged as error:
        kind = ProblemKind.WRONG_KEY if error.foreign else ProblemKind.DAMAGED
        return Problem(kind, path, error.what, rows)
    except CacheReadError as error:
        return Problem(ProblemKind.UNREADABLE, path, error.what)


def _sound_ids(path: Path, base: BaseKey, deep: bool, probe: Probe) -> Ids:
    shard = Shard(path, base)
    ids = shard.read_ids()
    header = shard.header
    if header.column.digest(base) != header.column_digest or header.base != base.to_json():
        raise ShardDamaged("it does not hold the column or the key that it names")
    if deep:
        _compare_digest(shard)
    described = probe.ask(path)
    if "error" in described:
        # A busy machine, a lock or a missing library must not cost a shard: only its bytes can convict it.
        _compare_digest(shard, f"{described['error']}; ")
        raise CacheReadError(
            f"{path}: {described['error']}", f"{described['error']}; its bytes are those that were written"
        )
    expected = {
        "features": [[header.rows, shard.dim], header.dtype, header.features_at],
        "ids": [[header.rows, 32], "uint8", header.ids_at],
        "checksums": [[len(shard.sums)], "uint64", header.checksums_at],
    }
    if described["key"] != base.digest or described["datasets"] != expected:
        raise ShardDamaged("the HDF5 library sees other datasets than the shard's own description")
    return ids


def _compare_digest(shard: Shard, before: str = "") -> None:
    digest = file_digest(shard.path)
    if not digest.startswith(shard.name.sha256):
        raise ShardDamaged(f"{before}its bytes have the SHA-256 {digest[:32]}, its name says {shard.name.sha256}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with opened(path) as descriptor:
        while chunk := os.read(descriptor, _CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _strays(paths: Sequence[Path]) -> list[Problem]:
    return [Problem(ProblemKind.TEMPORARY, path, "a temporary file of a killed process") for path in paths]
