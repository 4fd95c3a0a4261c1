"""The folder of one key: key.json, the lock, and its shards in the order in which they were written."""

from __future__ import annotations

import contextlib
import enum
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.durable import FolderLock, abandoned_files, commit_file, make_folder, remove_files
from cache.errors import CacheError, CacheLayoutError, CacheReadError, NotAFile
from cache.index import INDEX_NAME
from cache.key import LAYOUT_VERSION, BaseKey, canonical_json
from cache.key_file import (
    MOST_BYTES,
    KeyFile,
    KeyFileDamaged,
    OtherLayout,
    merged_notes,
    parse_key_file,
)
from cache.quarantine import FOLDER as QUARANTINE
from cache.quarantine import quarantine
from cache.regular import entries, read_whole
from cache.shard import ShardName
from cache.stored import Shard

_LISTINGS = 10_000

_README = """This folder is an embedding cache: vectors that a frozen network computed from photos.

One sub-folder per key (network, weights, transform); its key.json says which. Each .h5 file in it is a shard:
`features` (n, d), `ids` (n, 32; SHA-256 of the photo's bytes) and `checksums`, complete as soon as it has its name.
files.sqlite remembers which path has which content; it may be deleted and is then rebuilt.
quarantine holds what a repair took out; `python run.py cache prune --quarantine --yes` deletes it.
Look inside with `python run.py cache info`, check with `cache verify`, shrink with `cache prune` and `cache compact`.
"""
_README_NAME = "README.txt"
_KEY_FOLDER = re.compile(r"[0-9a-f]{16}")


def is_cache(root: Path) -> bool:
    """Whether a folder is a cache, whole or damaged: some folder of a key lies in it, or what a cache has beside them.

    Args:
        root: The folder.

    Raises:
        CacheReadError: It cannot be listed.
    """
    beside = {INDEX_NAME, QUARANTINE}
    return any(entry.name in beside or _KEY_FOLDER.fullmatch(entry.name) for entry in entries(root))


class KeyState(enum.Enum):
    """What a key.json is."""

    SOUND = "sound"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    OTHER_LAYOUT = "of another layout version"


@dataclass(frozen=True)
class KeyCheck:
    """What a folder's key.json is, and which key the folder has by it or else by its shards.

    Attributes:
        state: Of key.json.
        detail: What is wrong with it; empty if nothing is.
        key: The key; None if nothing that could be read tells it.
        unreadable: Whether something that might tell it could not be read.
        layout: The version that key.json is of.
    """

    state: KeyState
    detail: str = ""
    key: KeyFile | None = None
    unreadable: bool = False
    layout: int = LAYOUT_VERSION


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
        named = [entry for entry in entries(root) if _KEY_FOLDER.fullmatch(entry.name)]
        return [cls(entry) for entry in sorted(named) if entry.is_dir()]

    @property
    def key_path(self) -> Path:
        """Where the key is written down."""
        return self.path / "key.json"

    def shard_names(self) -> list[ShardName]:
        """Shards present, oldest first.

        A folder read while files come and go may miss an older name and show a newer one, and while shards are
        compacted it may show neither the old ones nor the one made of them. What existed when one listing ended is in
        the next, so two that agree are whole.

        Raises:
            CacheError: The folder never came to rest.
        """
        before = None
        for _ in range(_LISTINGS):
            now = set(self._list())
            if now == before:
                return sorted(now)
            before = now
        raise CacheError(f"{self.path} changes faster than it can be listed; try again when its writer is done")

    def _list(self) -> list[ShardName]:
        names = (ShardName.parse(entry.name) for entry in entries(self.path))
        return [name for name in names if name is not None]

    def abandoned_files(self) -> list[Path]:
        """Temporary files of writers that are gone."""
        return abandoned_files(self.path)

    def check_key(self) -> KeyCheck:
        """Read key.json; unless it is sound, ask the shards for the key."""
        try:
            whole = parse_key_file(read_whole(self.key_path, MOST_BYTES), self.path.name)
            return KeyCheck(KeyState.SOUND, key=whole)
        except OtherLayout as error:
            return KeyCheck(KeyState.OTHER_LAYOUT, str(error), layout=error.layout)
        except FileNotFoundError:
            state, detail = KeyState.MISSING, "it is missing"
        except CacheReadError as error:
            state, detail = KeyState.UNREADABLE, error.what
        except (KeyFileDamaged, NotAFile) as error:
            state, detail = KeyState.DAMAGED, str(error)
        key, unreadable = self._key_from_shards()
        return KeyCheck(state, detail, key, unreadable or state is KeyState.UNREADABLE)

    def _key_from_shards(self) -> tuple[KeyFile | None, bool]:
        """The key as every sound shard of this folder tells it, and whether a shard could not be read."""
        keys: dict[str, BaseKey] = {}
        notes: dict[str, Any] = {}
        modified: list[float] = []
        unreadable = False
        for name in self.shard_names():
            try:
                shard = Shard(self.path / name.text)
                base = BaseKey.from_json(shard.header.base)
                modified_at = shard.path.stat().st_mtime
            except (CacheReadError, PermissionError):
                unreadable = True
                continue
            except (CacheError, OSError):
                continue
            if base.digest != shard.header.key or base.digest[:16] != self.path.name:
                continue
            keys[base.digest] = base
            notes = merged_notes(notes, shard.header.notes)
            modified.append(modified_at)
        if len(keys) != 1:
            return None, unreadable
        (base,) = keys.values()
        return KeyFile(base, notes, min(modified)), unreadable

    def read_key(self) -> KeyFile:
        """The key by key.json, or by the shards if that is lost, damaged or cannot be read.

        Returns:
            Key, notes and time.

        Raises:
            CacheLayoutError: The folder is of another layout version.
            CacheReadError: What would tell the key cannot be read.
            CacheError: Nothing tells the key.
        """
        check = self.check_key()
        if check.key is not None:
            return check.key
        if check.state is KeyState.OTHER_LAYOUT:
            raise CacheLayoutError(old_layout_text(self.path.parent, [self.path.name], check.layout))
        if check.unreadable:
            raise CacheReadError(f"{self.path}: which key it is of cannot be read ({check.detail})")
        if self.is_empty(check):
            raise CacheError(f"{self.path} holds no vectors yet; run `python run.py extract` to compute them")
        raise CacheError(
            f"{self.path}: no shard tells the key, and of key.json: {check.detail}. "
            "`python run.py cache verify --repair` moves the folder to quarantine."
        )

    def is_empty(self, check: KeyCheck) -> bool:
        """True for a folder without key.json and shards, as a writer killed at its very start leaves it."""
        return check.state is KeyState.MISSING and not self.shard_names()

    def prepare(self, base: BaseKey, notes: Mapping[str, Any]) -> KeyFile:
        """Write key.json if it is missing, damaged, not sealed or has other notes.

        To be called under the cache's own lock, or under the key's where it is not shared: two that join notes at once
        would lose those of one.

        Args:
            base: The key the folder must have.
            notes: Joined with those that are there.

        Returns:
            What key.json says now.

        Raises:
            CacheLayoutError: The folder is of another layout version.
            CacheReadError: What is there cannot be read.
            CacheError: The folder belongs to another key with the same first digits.
            CacheWriteError: The disk refuses.
        """
        check = self.check_key()
        before = check.key
        if before is None and (check.unreadable or check.state is KeyState.OTHER_LAYOUT):
            self.read_key()  # which raises
        if before is not None and before.base.digest != base.digest:
            raise CacheError(
                f"{self.path} belongs to key {before.base.digest}, expected {base.digest}; use another cache"
            )
        plain = json.loads(canonical_json(dict(notes)))
        merged = merged_notes(before.notes if before else {}, plain)
        key = KeyFile(base, merged, before.created if before else time.time())
        if check.state is KeyState.UNREADABLE or (check.state is KeyState.SOUND and key == before):
            return key  # what cannot be read is not written over
        if check.state is KeyState.DAMAGED:
            quarantine(self.path.parent, self.key_path)
        commit_file(self.key_path, key.to_bytes())
        return key


def old_layout_text(root: Path, names: list[str], layout: object) -> str:
    """Say that a cache was made by another layout version, and what helps."""
    return (
        f"{root} holds vectors of cache layout {layout} ({', '.join(names)}); this version reads and writes layout "
        f"{LAYOUT_VERSION}. `python run.py cache prune` lists such folders and removes them; then run `extract` again, "
        "or choose another folder with --cache."
    )


def require_layout(root: Path) -> None:
    """Refuse a cache in which another layout version has left vectors.

    Args:
        root: The cache.

    Raises:
        CacheLayoutError: It names the folders, the versions and the command that helps.
    """
    layouts = {folder.path.name: other_layout(folder) for folder in KeyFolder.all(root)}
    odd = {name: layout for name, layout in layouts.items() if layout is not None}
    if odd:
        raise CacheLayoutError(old_layout_text(root, sorted(odd), min(odd.values())))


def other_layout(folder: KeyFolder) -> int | None:
    """The other layout version that a sound key.json says; None if it says this one, or cannot be relied on."""
    try:
        parse_key_file(read_whole(folder.key_path, MOST_BYTES), folder.path.name)
    except OtherLayout as error:
        return error.layout
    except (CacheError, FileNotFoundError):
        pass
    return None


def make_root(root: Path) -> None:
    """Create the cache folder and the text that says what it is; remove temporary files of dead processes."""
    make_folder(root)
    readme = root / _README_NAME
    if readme.exists() and not abandoned_files(root):
        return
    with root_locked(root):
        remove_files(abandoned_files(root))
        if not readme.exists():
            commit_file(readme, _README.encode("ascii"))


@contextlib.contextmanager
def root_locked(root: Path) -> Iterator[None]:
    """Have the cache's own lock, as everything has it for moments that reads a small file and writes it anew."""
    lock = FolderLock(root)
    lock.acquire(None)
    try:
        yield
    finally:
        lock.release()
