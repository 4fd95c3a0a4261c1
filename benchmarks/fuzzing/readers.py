"""The readers by name."""

from __future__ import annotations

from benchmarks.fuzzing.binary import CacheReader, CheckpointReader, ModelReader, WeightsReader
from benchmarks.fuzzing.folder import FolderReader
from benchmarks.fuzzing.plain import (
    CatalogueReader,
    LabelsReader,
    ListsReader,
    MappingReader,
    OptionsReader,
    PhotosReader,
    RunsReader,
    SplitReader,
)
from benchmarks.fuzzing.reader import Reader
from benchmarks.fuzzing.tables import TablesReader

READERS: dict[str, type[Reader]] = {
    each.name: each
    for each in (
        *(CatalogueReader, TablesReader, ListsReader, MappingReader, LabelsReader, SplitReader, OptionsReader),
        *(ModelReader, FolderReader, WeightsReader, CheckpointReader, CacheReader, PhotosReader, RunsReader),
    )
}
