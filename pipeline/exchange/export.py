"""The stage that writes a model file as a folder for other programs: without pickle, and as ONNX where asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ModelFileError, OptionError
from pipeline.model.file import proba, read_model
from pipeline.model.folder.write import write_parts
from pipeline.options import ModelExportOptions, PredictOptions
from pipeline.system import whole_folder

if TYPE_CHECKING:
    from pipeline.exchange.graphs.write import GraphReport

_ROUNDING = 1e-6
"""Largest difference of a probability once the model has been read back: the arithmetic is the same."""


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: Where.
        sha256: Of its `model.json`, which has the digests of the other files.
        sizes: Bytes per file, by its name in the folder.
        graphs: What became of the ONNX files; none where they were not asked for.
    """

    folder: Path
    sha256: str
    sizes: dict[str, int]
    graphs: tuple[GraphReport, ...] = ()


def export_model(path: Path, options: ModelExportOptions) -> ExportReport:
    """Write a model as a folder, whole or not at all, once it has been read back and gives the same.

    Args:
        path: A model file, or a folder written before.
        options: Where to, and what.

    Raises:
        OptionError: The folder is not empty, none is named, or a library for ONNX is not installed.
        ModelFileError: The model cannot be read.
        HeadError: It holds an object that can only be pickled.
    """
    if options.to is None:
        raise OptionError("no folder is named; name one with --to")
    if options.onnx:
        _require_onnx()
    model = read_model(path, options.sha256)
    try:
        with whole_folder(options.to) as folder:
            graphs = _graphs(model, folder, options) if options.onnx else ()
            digest = write_parts(model, folder, {each.name: each.to_json() for each in graphs})
            _require_same(model, folder)
            files = sorted(each for each in folder.rglob("*") if each.is_file())
            sizes = {str(each.relative_to(folder)): each.stat().st_size for each in files}
    except FileExistsError:
        raise OptionError(f"{options.to} is already there; name another folder with --to, or remove it") from None
    return ExportReport(options.to, digest, sizes, graphs)


def _graphs(model: dict[str, Any], folder: Path, options: ModelExportOptions) -> tuple[GraphReport, ...]:
    from pipeline.exchange.graphs.write import write_graphs
    from pipeline.model.predictor import Predictor

    return tuple(write_graphs(Predictor(model, PredictOptions(weights=options.weights, device="cpu")), folder))


def _require_onnx() -> None:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise OptionError(f"--onnx needs the package {error.name!r}: pip install -r requirements-onnx.txt") from error
    _ = onnx, onnxruntime


def _require_same(model: dict[str, Any], folder: Path) -> None:
    test = model["selftest"]
    gap = float(np.abs(proba(read_model(folder), test["X"]) - proba(model, test["X"])).max())
    if not gap <= _ROUNDING:
        raise ModelFileError(f"the folder's probabilities differ from the model's by {gap:.2g}; it was not written")
