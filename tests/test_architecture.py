"""The import arrows of docs/ARCHITECTURE.md: leaves know no stage, stages do not know each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = {
    "pipeline.features.extract",
    "pipeline.experiment.fit_heads",
    "pipeline.comparison.compare",
    "pipeline.model.predict",
    "pipeline.features.finetuning.finetune",
    "pipeline.audit.audit",
    "pipeline.audit.vocabulary",
}
NEVER = {
    "cache": {"pipeline", "torch", "timm"},
    "pipeline.comparison.compare": {"torch", "h5py", "timm", "cache", "bokeh", "pipeline.comparison.page"},
    "pipeline.comparison.page": {"torch", "h5py", "timm", "cache"},
    "pipeline.comparison.page.data": {"torch", "h5py", "timm", "cache", "bokeh"},
    "pipeline.evaluation.metrics": {"torch", "h5py", "cache"},
    "pipeline.evaluation.thresholds": {"torch", "h5py", "cache"},
    "pipeline.evaluation.threshold_search": {"torch", "h5py", "cache", "scipy"},
    "pipeline.comparison.pairs": {"torch", "h5py", "cache", "scipy"},
    "pipeline.comparison.table": {"torch", "h5py", "cache", "scipy"},
    "pipeline.heads.calibration": {"h5py", "cache", "timm"},
    "pipeline.model.file": {"torch", "h5py", "timm", "cache"},
    "pipeline.heads.probabilities": {"torch", "sklearn", "pipeline.heads", "pipeline.model.file"},
    "pipeline.features.backbone.blocks": {"torch", "numpy", "cache"},
    "pipeline.experiment.mlflow_log": {"torch", "h5py", "cache", "pipeline.heads"},
    "pipeline.features.backbone.decoding": {"torch", "h5py", "timm", "cache"},
    "pipeline.experiment.thumbnails": {"torch", "h5py", "timm", "cache"},
    "pipeline.features.near_duplicates": {"torch", "h5py", "cache"},
    "pipeline.catalogue": {"torch", "h5py", "timm", "cache"},
    "pipeline.heads": {"h5py", "cache", "timm", "pipeline.features.embed"},
    "pipeline.features.finetuning": {"h5py", "cyclopts", "pipeline.features.embed", "pipeline.features.selection"},
    "pipeline.features.backbone.provenance": {"torch", "h5py", "timm"},
    "pipeline.cli.plan": {"torch", "h5py", "timm", "cache", "numpy"},
    "pipeline.cli.plan_state": {"torch", "h5py", "timm", "cache", "numpy"},
    "pipeline.audit.vocabulary": {"torch", "h5py", "timm", "cache", "sklearn"},
    "pipeline.audit.spelling": {"torch", "h5py", "cache", "pipeline"},
    "pipeline.audit.label_noise": {"torch", "h5py", "cache", "pipeline"},
    "pipeline.audit.outliers": {"torch", "h5py", "cache", "pipeline"},
    "pipeline.audit.out_of_fold": {"h5py", "cache", "pipeline.catalogue"},
    "pipeline.options": {"cyclopts", "torch", "numpy"},
}


def modules() -> dict[str, Path]:
    found = {}
    for package in ("pipeline", "cache"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, module: str = "") -> set[str]:
    """Absolute names a module imports, wherever in it the statement stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", sorted(NEVER))
def test_package_stays_away_from_what_it_must_not_know(package: str) -> None:
    members = {name: path for name, path in modules().items() if within(name, package)}
    assert members, f"{package} does not exist"
    for name, path in members.items():
        wrong = {i for i in imports_of(path.read_text()) for bad in NEVER[package] if within(i, bad)}
        assert not wrong, f"{name} imports {sorted(wrong)}"


def test_only_stages_compose_and_no_stage_imports_another() -> None:
    stage_of = {name: next((s for s in STAGES if within(name, s)), None) for name in modules()}
    assert set(stage_of) >= STAGES
    for name, path in modules().items():
        if name == "pipeline":
            continue  # the package's front door loads `predict` on first use
        for imported in imports_of(path.read_text()):
            for stage in STAGES:
                if within(imported, stage) and stage_of[name] != stage:
                    allowed = stage == "pipeline.comparison.compare" and within(name, "pipeline.comparison.page")
                    assert allowed, f"{name} imports the stage {stage}"


def test_only_the_command_line_prints_or_exits() -> None:
    for name, path in modules().items():
        if within(name, "pipeline.cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "exit", "quit"}, f"{name}:{node.lineno} calls {node.func.id}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("sys", "exit"), f"{name}:{node.lineno} exits"


def test_a_wrong_arrow_would_be_seen() -> None:
    assert "torch" in imports_of("def f():\n    import torch\n")
    assert "pipeline.features.extract" in imports_of("from pipeline.features import extract\n")


def test_no_function_takes_more_than_six_arguments() -> None:
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len([a for a in every if a.arg not in {"self", "cls"}])
                estimator = node.name == "__init__" and name.startswith("pipeline.heads")
                assert count <= 6 or estimator, f"{name}.{node.name} takes {count} arguments"
