"""The arrows of docs/ARCHITECTURE.md, held against every import of the tree, lazy and typing ones included."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EVERYWHERE = {"arrays", "errors", "machine", "names", "shapes", "spreadsheet", "system"}
"""Modules that any package may import, and that import no package."""
ARROWS = {
    "options": set(),
    "remote": set(),
    "catalogue": {"options", "remote"},
    "evaluation": {"catalogue"},
    "heads": {"options"},
    "features": {"catalogue", "options", "remote", "cache"},
    "cluster": {"features", "options", "remote", "cache"},
    "model": {"catalogue", "evaluation", "features", "heads", "options", "remote", "cache"},
    "finetuning": {"catalogue", "evaluation", "experiment", "features", "heads", "model", "options", "remote", "cache"},
    "experiment": {"catalogue", "evaluation", "features", "heads", "model", "options", "remote", "cache"},
    "comparison": {"catalogue", "evaluation", "experiment", "features", "options"},
    "trial": {"catalogue", "evaluation", "experiment", "features", "model", "options", "cache"},
    "serving": {"catalogue", "comparison", "evaluation", "features", "model", "options"},
    "labelling": {"catalogue", "experiment", "features", "model", "options", "remote", "cache"},
    "exchange": {"catalogue", "evaluation", "experiment", "features", "heads", "model", "options"},
    "audit": {"catalogue", "comparison", "experiment", "features", "heads", "labelling", "options", "remote"},
    "neighbours": {"catalogue", "comparison", "experiment", "features", "model", "options", "remote", "cache"},
    "atlas": {
        *("catalogue", "comparison", "evaluation", "experiment", "features", "model", "neighbours", "options"),
        *("remote",),
    },
    "cli": {
        *("atlas", "audit", "catalogue", "cluster", "comparison", "exchange", "experiment", "features", "finetuning"),
        *("heads", "labelling", "model", "neighbours", "options", "remote", "serving", "trial", "cache"),
    },
}
"""Which packages of pipeline/ a package may import; `cache` is the package beside it."""
STAGES = {
    "pipeline.features.extract",
    "pipeline.finetuning.finetune",
    "pipeline.experiment.fit_heads",
    "pipeline.comparison.compare",
    "pipeline.model.predict",
    "pipeline.trial.evaluate",
    "pipeline.exchange.export",
    "pipeline.serving.serve",
    "pipeline.audit.audit",
    "pipeline.audit.vocabulary",
    "pipeline.neighbours.similar",
    "pipeline.atlas.map",
    "pipeline.labelling.next_photos",
    "pipeline.labelling.merged",
}
HEAVY = {"torch", "timm", "h5py", "sklearn", "lightgbm", "openvino", "bokeh", "cleanlab", "cyclopts"}
BUT_ARRAYS = {f"pipeline.{name}" for name in {*ARROWS, *EVERYWHERE} - {"arrays"}}
"""All of pipeline/ except the names of array types."""
NEVER = {
    "cache": {"pipeline", *HEAVY - {"h5py"}},
    "pipeline.arrays": {"pipeline", "cache", *HEAVY},
    "pipeline.errors": {"pipeline", "cache", "numpy", *HEAVY},
    "pipeline.options": {"cache", "numpy", "pandas", *HEAVY},
    "pipeline.catalogue": {"cache", *HEAVY},
    "pipeline.remote": {"cache", "numpy", *HEAVY},
    "pipeline.evaluation": {"cache", *HEAVY},
    "pipeline.comparison": {"cache", *HEAVY},
    "pipeline.experiment.run_reader": {"cache", *HEAVY},
    "pipeline.experiment.thumbnails": {"cache", *HEAVY},
    "pipeline.features.near_duplicates": {"cache", *HEAVY},
    "pipeline.features.backbone.decoding": {"cache", *HEAVY},
    "pipeline.heads": {"h5py", "timm", "cache", "cyclopts", "pipeline.features"},
    "pipeline.heads.probabilities": HEAVY,
    "pipeline.model.file": {"cache", *HEAVY},
    "pipeline.model.check": {"cache", *HEAVY},
    "pipeline.audit.spelling": {"cache", *BUT_ARRAYS, *HEAVY},
    "pipeline.audit.outliers": {"cache", *BUT_ARRAYS, *HEAVY - {"sklearn"}},
    "pipeline.neighbours.search": {"cache", *HEAVY},
    "pipeline.cli.plans.plan": {"cache", "numpy", *HEAVY},
    "pipeline.cli.plans.state": {"cache", "numpy", *HEAVY},
}
"""What a module, or a package, must not reach: neither by an import of its own nor through others.

Reaching follows what is loaded with the module; an import inside a function counts for that module alone.
"""


@cache
def modules() -> dict[str, Path]:
    """Every module of pipeline/ and cache/ by its dotted name."""
    names = {}
    for package in ("pipeline", "cache"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def nodes_at_load(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: no function bodies, nothing under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from nodes_at_load(node)


@cache
def imports_of(source: str, at_load: bool = False) -> frozenset[str]:
    """Absolute names that a source imports: anywhere in it, or only when it is loaded."""
    tree = ast.parse(source)
    names: set[str] = set()
    for node in nodes_at_load(tree) if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def loaded_with(name: str) -> frozenset[str]:
    """Modules of ours that importing this one loads directly: what it imports, and the packages around those."""
    there = modules()
    direct = {i for i in imports_of(there[name].read_text(encoding="utf-8"), at_load=True) if i in there}
    around = {".".join(i.split(".")[:n]) for i in {*direct, name} for n in range(1, i.count(".") + 1)}
    return frozenset((direct | around) & there.keys() - {name})


def reached(name: str) -> set[str]:
    """Everything, ours or not, that importing a module loads, and what its own functions import."""
    own = imports_of(modules()[name].read_text(encoding="utf-8"))
    seen, todo, outside = {name}, [name], set(own)
    while todo:
        module = todo.pop()
        outside |= imports_of(modules()[module].read_text(encoding="utf-8"), at_load=True)
        fresh = loaded_with(module) - seen
        seen |= fresh
        todo += fresh
    return (seen - {name}) | outside


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def package_of(name: str) -> str:
    """The package of pipeline/ that a dotted name lies in, `cache` for all of the cache, "" for anything else."""
    if within(name, "cache"):
        return "cache"
    return name.split(".")[1] if name.startswith("pipeline.") else ""


def arrows() -> dict[str, set[str]]:
    """Package -> the packages that its modules import."""
    result: dict[str, set[str]] = {name: set() for name in ARROWS}
    for name, path in modules().items():
        home = package_of(name)
        if home in ARROWS:
            result[home] |= {package_of(i) for i in imports_of(path.read_text(encoding="utf-8"))} - {home, ""}
    return {home: to - EVERYWHERE for home, to in result.items()}


def test_packages_import_only_what_their_arrows_allow() -> None:
    for home, to in arrows().items():
        assert to <= ARROWS[home], f"pipeline.{home} imports {sorted(to - ARROWS[home])}"


def test_every_allowed_arrow_is_used_and_none_closes_a_circle() -> None:
    drawn = arrows()
    assert {home: ARROWS[home] - drawn[home] for home in ARROWS if ARROWS[home] - drawn[home]} == {}
    order: list[str] = []
    while len(order) < len(ARROWS):
        free = [p for p in ARROWS if p not in order and ARROWS[p] - {"cache"} <= set(order)]
        assert free, f"a circle among {sorted(set(ARROWS) - set(order))}"
        order += free


def test_every_module_has_a_package_and_no_package_has_more_than_twelve_files() -> None:
    assert {name for name in modules() if name.count(".") == 1 and name.startswith("pipeline.")} == {
        f"pipeline.{name}" for name in {*ARROWS, *EVERYWHERE}
    }
    for folder in {path.parent for path in modules().values() if path.is_relative_to(ROOT / "pipeline")}:
        files = [path.name for path in folder.glob("*.py")]
        assert len(files) <= 12, f"{folder.relative_to(ROOT)} has {len(files)} files"


def test_the_document_draws_these_arrows() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `pipeline/(\w+)/` \|[^|]*\|([^|]*)\|", text, re.M)
    assert {home: set(re.findall(r"[a-z]+", to)) for home, to in rows} == ARROWS


@pytest.mark.parametrize("package", sorted(NEVER))
def test_a_package_reaches_nothing_that_it_must_not_know(package: str) -> None:
    members = [name for name in modules() if within(name, package)]
    assert members, f"{package} does not exist"
    for name in members:
        bad = {i for i in reached(name) for never in NEVER[package] if within(i, never) and not within(i, package)}
        bad -= {i for i in bad if within(name, i)}  # the packages around it, which load nothing by themselves
        assert not bad, f"{name} reaches {sorted(bad)}"


def test_only_stages_compose_and_no_stage_imports_another() -> None:
    for name, path in modules().items():
        if name == "pipeline" or within(name, "pipeline.cli"):
            continue  # the front door loads `predict` on first use; the command line calls every stage
        for imported in imports_of(path.read_text(encoding="utf-8")):
            for stage in STAGES:
                assert not within(imported, stage) or name == stage, f"{name} imports the stage {stage}"


def test_only_the_command_line_prints_or_exits() -> None:
    for name, path in modules().items():
        if within(name, "pipeline.cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "exit", "quit"}, f"{name}:{node.lineno} calls {node.func.id}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("sys", "exit"), f"{name}:{node.lineno} exits"


def test_a_wrong_arrow_would_be_seen() -> None:
    lazy = "def f():\n    import torch\n"
    assert "torch" in imports_of(lazy) and "torch" not in imports_of(lazy, at_load=True)
    assert "pipeline.features.extract" in imports_of("from pipeline.features import extract\n")
    assert "torch" in reached("pipeline.heads.stacked.sweep"), "through the modules it loads"
    assert package_of("cache.errors") == "cache" and package_of("numpy") == ""


def test_no_function_takes_more_than_six_arguments() -> None:
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len([a for a in every if a.arg not in {"self", "cls"}])
                estimator = node.name == "__init__" and name.startswith("pipeline.heads")
                assert count <= 6 or estimator, f"{name}.{node.name} takes {count} arguments"
