"""The commands for those who label: what next, and what came back."""

from __future__ import annotations

from typing import Annotated

from pipeline.cli.output import say_all
from pipeline.cli.parameters import FileOptions, Flat
from pipeline.cli.summaries.labelling import labels_lines, next_lines
from pipeline.options import CacheKeyOptions, DataOptions, LabelsOptions, NextOptions


def next_command(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    cache_key: Annotated[CacheKeyOptions, Flat] = CacheKeyOptions(),
    options: Annotated[NextOptions, Flat] = NextOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Choose the photos whose labels would help most, and say what is asked of each and why."""
    from pipeline.labelling.next_photos import next_photos

    say_all(next_lines(next_photos(data, cache_key, options)))


def labels(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    options: Annotated[LabelsOptions, Flat] = LabelsOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Turn files of labels, such as a Label Studio export, into a CSV of who said what, and into a catalogue."""
    from pipeline.labelling.merged import merge_labels

    say_all(labels_lines(merge_labels(data, options), options))
