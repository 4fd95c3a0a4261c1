"""The installed distribution: one top-level name, beside any other `pipeline` and `cache`, from any folder."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel would put among the installed packages."""
    pytest.importorskip("setuptools")
    out = tmp_path_factory.mktemp("wheel")
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    source = out / "source"
    source.mkdir()
    for name in (
        "pipeline",
        "cache",
        "configs",
        "setup.py",
        "pyproject.toml",
        "requirements.txt",
        "README.md",
        "LICENSE",
    ):
        (source / name).symlink_to(ROOT / name)
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A project with a `pipeline.py` and a `cache/` of its own."""
    (tmp_path / "pipeline.py").write_text("raise SystemExit('the project of somebody else')\n")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "__init__.py").write_text("raise SystemExit('the project of somebody else')\n")
    return tmp_path


def python(code: str, cwd: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_it_has_one_top_level_name(installed: Path) -> None:
    assert sorted(p.name for p in installed.iterdir() if p.suffix != ".dist-info") == ["selvedge"]
    entry = next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    assert "selvedge = selvedge.pipeline.cli:start" in entry


def test_templates_styles_scripts_and_presets_travel_with_it(installed: Path) -> None:
    needed = {
        path.relative_to(ROOT) for ending in ("html", "css", "js") for path in (ROOT / "pipeline").rglob(f"*.{ending}")
    }
    needed |= {path.relative_to(ROOT) for path in (ROOT / "configs").glob("*.yaml")}
    assert len(needed) > 12
    assert [path for path in sorted(needed) if not (installed / "selvedge" / path).is_file()] == []


def test_commands_run_beside_a_foreign_pipeline_and_cache(installed: Path, crowded: Path) -> None:
    code = """
import sys
from selvedge.pipeline.cli.main import main
from selvedge import Predictor, load_model
assert load_model.__module__ == Predictor.__module__ == "selvedge.pipeline.model.predictor"
backbone = "--backbone test_resnet --weights random:0 --size 32 --device cpu"
for words in ("sample out --images 12", f"extract --data out {backbone}", "cache verify --deep"):
    assert main(words.split()) == 0, words
assert not {"pipeline", "cache"} & set(sys.modules)
"""
    done = python(code, crowded, installed)
    assert done.returncode == 0, done.stderr
    assert "cache verify: clean; 1 cache key," in done.stdout


def test_presets_and_the_hints_are_those_of_the_installed_program(installed: Path, tmp_path: Path) -> None:
    code = "from selvedge.pipeline.cli import start; raise SystemExit(start({!r}))"
    assert "Usage: selvedge" in python(code.format(["--help"]), tmp_path, installed).stdout
    missing = python(code.format(["fit-heads", "--preset", "best", "--data", "."]), tmp_path, installed)
    assert missing.returncode == 1 and "Traceback" not in missing.stderr
    nothing = python(code.format(["cache", "info", "--cache", "none"]), tmp_path, installed)
    assert "run `selvedge extract`" in nothing.stderr


def test_a_clone_names_the_foreign_cache_that_hides_its_own(crowded: Path) -> None:
    (crowded / "pipeline.py").unlink()
    done = python("import pipeline", crowded, crowded, ROOT)
    assert done.returncode == 1
    assert f"hidden by another `cache` ({crowded / 'cache' / '__init__.py'})" in done.stderr.splitlines()[-1]
    assert python("import pipeline, cache", ROOT, ROOT, crowded).returncode == 0


def test_the_packages_import_each_other_by_from_alone() -> None:
    """The build puts `selvedge.` in front of these; another form would stay as it is."""
    for folder in ("pipeline", "cache"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = {alias.name.split(".")[0] for alias in node.names}
                    assert not names & {"pipeline", "cache"}, f"{path}:{node.lineno}"
