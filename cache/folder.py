"""The folder of one key: key.json, the lock, and its shards in the order in which they were written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.durable import FolderLock, commit_file, make_folder, remove_files, strays
from cache.errors import CacheError, CacheLayoutError, ShardDamaged
from cache.key import LAYOUT_VERSION, BaseKey, canonical_json
from cache.shard import ShardName
from cache.stored import Shard

_README = """This folder is an embedding cache: vectors that a frozen network computed from photos.

One sub-folder per key (network, weights, transform); its key.json says which. Each .h5 file in it is a shard:
`features` (n, d), `ids` (n, 32; SHA-256 of the photo's bytes) and `checksums`, complete as soon as it has its name.
files.sqlite remembers which path has which content; it may be deleted and is then rebuilt.
Look inside with `python run.py cache info`, check with `cache verify`, shrink with `cache prune` and `cache compact`.
"""


@dataclass(frozen=True)
class KeyFile:
    """Content of a key.json."""

    base: BaseKey
    notes: Mapping[str, Any]
    created: float


class KeyFolder:
    """Paths and listings of `<root>/<first 16 hex digits of the key's digest>`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, root: Path, digest: str) -> KeyFolder:
        """The folder a key has, whether it exists or not."""
        return cls(root / digest[:16])

    @classmethod
    def all(cls, root: Path) -> list[KeyFolder]:
        """Every sub-folder that could be a key's, by name."""
        if not root.is_dir():
            return []
        found = [entry for entry in root.iterdir() if len(entry.name) == 16 and entry.is_dir()]
        return [cls(entry) for entry in sorted(found)]

    @property
    def key_path(self) -> Path:
        """Where the key is written down."""
        return self.path / "key.json"

    def shard_names(self) -> list[ShardName]:
        """Shards present, oldest first.

        A folder read while files come and go may miss an older name and show a newer one. A second listing shows
        everything that existed when the first ended, so it is cut at the newest name of the first.
        """
        first = self._list()
        while True:
            second = self._list()
            if set(first) <= set(second):
                newest = max((name.sequence for name in first), default=-1)
                return sorted(name for name in second if name.sequence <= newest)
            first = second

    def _list(self) -> list[ShardName]:
        if not self.path.is_dir():
            return []
        names = (ShardName.parse(entry.name) for entry in self.path.iterdir())
        return [name for name in names if name is not None]

    def strays(self) -> list[Path]:
        """Temporary files of dead or running writers."""
        return strays(self.path)

    def layout(self) -> int | None:
        """Layout version of the folder; None if it cannot be told."""
        try:
            value = json.loads(self.key_path.read_bytes())["layout"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return value if isinstance(value, int) else None

    def read_key(self) -> KeyFile:
        """Read key.json; if it is lost or damaged, the key is taken from a shard.

        Raises
        ------
        CacheLayoutError
            If the folder is of another layout version.
        CacheError
            If no key can be had.
        """
        try:
            data = json.loads(self.key_path.read_bytes())
            if data["layout"] != LAYOUT_VERSION:
                raise CacheLayoutError(old_layout_text(self.path.parent, [self.path.name], data["layout"]))
            base = BaseKey.from_json(data["key"])
            if data["digest"] == base.digest and self.path.name == base.digest[:16]:
                return KeyFile(base, data["notes"], float(data["created"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return self._key_from_shards()

    def _key_from_shards(self) -> KeyFile:
        for name in self.shard_names():
            try:
                card = Shard(self.path / name.text).card
                base = BaseKey.from_json(card.base)
            except (ShardDamaged, OSError):
                continue
            if base.digest[:16] == self.path.name:
                return KeyFile(base, card.notes, self.path.stat().st_mtime)
        raise CacheError(f"{self.path}: key.json is missing or damaged and no shard tells the key; remove the folder")

    def prepare(self, base: BaseKey, notes: Mapping[str, Any]) -> None:
        """Write key.json if it is missing, damaged or has other notes; to be called under the lock.

        Raises
        ------
        CacheError
            If the folder belongs to another key with the same first digits.
        """
        old: KeyFile | None = None
        if self.key_path.exists() or self.shard_names():
            try:
                old = self.read_key()
            except CacheLayoutError:
                raise
            except CacheError:
                old = None
        if old is not None and old.base.digest != base.digest:
            raise CacheError(f"{self.path} belongs to key {old.base.digest}, expected {base.digest}; use another cache")
        merged = {**(old.notes if old else {}), **notes}
        if old is not None and merged == dict(old.notes) and self.key_file_is_whole(base):
            return
        content = {
            "layout": LAYOUT_VERSION,
            "digest": base.digest,
            "key": base.to_json(),
            "notes": merged,
            "created": old.created if old else time.time(),
        }
        commit_file(self.key_path, (canonical_json(content) + "\n").encode("ascii"))

    def key_file_is_whole(self, base: BaseKey) -> bool:
        """True if key.json is there and says this key."""
        try:
            data = json.loads(self.key_path.read_bytes())
            return bool(data["digest"] == base.digest and data["key"] == base.to_json())
        except (OSError, ValueError, KeyError, TypeError):
            return False


def old_layout_text(root: Path, names: list[str], layout: object) -> str:
    """Say that a cache was made by another layout version, and what helps."""
    return (
        f"{root} holds vectors of cache layout {layout} ({', '.join(names)}); this version reads and writes layout "
        f"{LAYOUT_VERSION}. `python run.py cache prune` lists such folders and removes them; then run `extract` again, "
        "or choose another folder with --cache."
    )


def require_layout(root: Path) -> None:
    """Refuse a cache in which another layout version has left vectors.

    Raises
    ------
    CacheLayoutError
        Naming the folders, the versions and the command that helps.
    """
    found = {folder.path.name: folder.layout() for folder in KeyFolder.all(root)}
    odd = {name: layout for name, layout in found.items() if layout not in (None, LAYOUT_VERSION)}
    if odd:
        raise CacheLayoutError(old_layout_text(root, sorted(odd), sorted({str(v) for v in odd.values()})[0]))


def make_root(root: Path) -> None:
    """Create the cache folder and the text that says what it is; remove temporary files of dead processes."""
    make_folder(root)
    readme = root / "README.txt"
    if readme.exists() and not strays(root):
        return
    lock = FolderLock(root)
    lock.acquire(None)
    try:
        remove_files(strays(root))
        if not readme.exists():
            commit_file(readme, _README.encode("ascii"))
    finally:
        lock.release()
