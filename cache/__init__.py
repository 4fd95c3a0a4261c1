"""The embedding cache: vectors by photo content, keyed by everything that can change them, safe against kills.

cache = FeatureCache("features")
ids, problems = cache.files.ids(paths)
with cache.writer(key, notes={"runtime": "torch"}, wait=None) as writer:
    new = writer.missing(ids, column)
    writer.append(ids[new], {column: vectors})
features = cache.reader(key.digest).read(ids, [column])
"""

from cache.commit import Committer
from cache.errors import (
    CacheBusy,
    CacheError,
    CacheLayoutError,
    CacheReadError,
    CacheWriteError,
    MissingRows,
    NotAFile,
    ShardDamaged,
)
from cache.export import ExportReport, Selection, export_h5, export_npz
from cache.files import FileIndex, Rejected
from cache.ids import NO_ID, IdIndex, Ids, as_ids, id_array, id_of, ids_to_hex
from cache.joined import JoinedReader
from cache.key import LAYOUT_VERSION, BaseKey, Block, Column, canonical_json, digest_of
from cache.reader import Reader
from cache.repair import Moved, RepairReport
from cache.signals import interruptible
from cache.store import FeatureCache, KeyInfo
from cache.upkeep import CompactReport, PruneReport
from cache.verify import Problem, ProblemKind, VerifyReport
from cache.writer import Writer, WriterOptions

__all__ = [
    "LAYOUT_VERSION",
    "NO_ID",
    "BaseKey",
    "Block",
    "CacheBusy",
    "CacheError",
    "CacheLayoutError",
    "CacheReadError",
    "CacheWriteError",
    "Column",
    "Committer",
    "CompactReport",
    "ExportReport",
    "FeatureCache",
    "FileIndex",
    "IdIndex",
    "Ids",
    "JoinedReader",
    "KeyInfo",
    "MissingRows",
    "Moved",
    "NotAFile",
    "Problem",
    "ProblemKind",
    "PruneReport",
    "Reader",
    "Rejected",
    "RepairReport",
    "Selection",
    "ShardDamaged",
    "VerifyReport",
    "Writer",
    "WriterOptions",
    "as_ids",
    "canonical_json",
    "digest_of",
    "export_h5",
    "export_npz",
    "id_array",
    "id_of",
    "ids_to_hex",
    "interruptible",
]
