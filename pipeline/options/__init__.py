"""Every option of every command, with its default and its help, in one place: a module per area.

The command line and the YAML file are generated from these dataclasses; nothing else states a default.
"""

from pipeline.options.audit import AuditOptions, VocabularyOptions
from pipeline.options.cache import ExportOptions, PruneOptions
from pipeline.options.comparison import CompareOptions, ReproduceOptions
from pipeline.options.data import DataOptions, SampleOptions, SplitOptions, grouping
from pipeline.options.features import (
    BackboneOptions,
    CacheKeyOptions,
    EngineOptions,
    ExtractOptions,
    VectorKind,
    names_file,
)
from pipeline.options.finetuning import FinetuneOptions
from pipeline.options.heads import FitOptions
from pipeline.options.labelling import LabelsOptions, NextOptions
from pipeline.options.model.exchange import ModelExportOptions
from pipeline.options.model.predict import EvaluateOptions, PredictOptions
from pipeline.options.model.serving import ServeOptions
from pipeline.options.neighbours import MapOptions, SimilarOptions

__all__ = [
    "AuditOptions",
    "BackboneOptions",
    "CacheKeyOptions",
    "CompareOptions",
    "DataOptions",
    "EngineOptions",
    "EvaluateOptions",
    "ExportOptions",
    "ExtractOptions",
    "FinetuneOptions",
    "FitOptions",
    "LabelsOptions",
    "MapOptions",
    "ModelExportOptions",
    "NextOptions",
    "PredictOptions",
    "PruneOptions",
    "ReproduceOptions",
    "SampleOptions",
    "ServeOptions",
    "SimilarOptions",
    "SplitOptions",
    "VectorKind",
    "VocabularyOptions",
    "grouping",
    "names_file",
]
