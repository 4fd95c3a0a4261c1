"""The commands that look over the labels."""

from __future__ import annotations

from typing import Annotated

from pipeline.cli.output import say, say_all
from pipeline.cli.parameters import FileOptions, Flat
from pipeline.cli.summaries.audit import audit_lines, vocabulary_lines
from pipeline.options import AuditOptions, CacheKeyOptions, DataOptions, VocabularyOptions


def vocabulary(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    options: Annotated[VocabularyOptions, Flat] = VocabularyOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Count every attribute's values and write a mapping file that suggests which spellings are one; merges nothing."""
    from pipeline.audit.vocabulary import vocabulary as run_vocabulary

    say_all(vocabulary_lines(run_vocabulary(data, options)))


def audit(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    cache_key: Annotated[CacheKeyOptions, Flat] = CacheKeyOptions(),
    options: Annotated[AuditOptions, Flat] = AuditOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Find labels that are likely wrong, look-alikes with different labels, and outliers; changes nothing."""
    from pipeline.audit.audit import audit as run_audit
    from pipeline.audit.page import shown_photos, write_gallery
    from pipeline.experiment.thumbnails import make_thumbnails

    report = run_audit(data, cache_key, options, say)
    photos = shown_photos(report, options.gallery)
    pictures, _ = make_thumbnails(photos, [report.files[photo] for photo in photos])
    page = write_gallery(report, pictures, options.gallery, options.out / "audit.html")
    say_all(audit_lines(report, page))
