"""Builds the installed distribution: one top-level package, `selvedge`, made of `pipeline/`, `cache/` and `configs/`.

In a clone the packages have short names, which a user's own project may have too. So they are copied under one name,
and the imports of each other are written under it; docs/ARCHITECTURE.md says why.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
FOLDERS = ("pipeline", "cache", "configs")
FILES = ("*.py", "py.typed", "*.css", "*.js", "*.html", "*.yaml")
IMPORT = re.compile(r"^(\s*from )(pipeline|cache)(?=[. ])", re.MULTILINE)
"""The packages import by `from` alone; `tests/test_installed.py` fails on any other form."""


class BuildUnderOneName(build_py):
    """Copies the folders into `selvedge/` of the build and puts that name in front of their own imports."""

    def run(self) -> None:
        """Write the build."""
        target = Path(self.build_lib) / "selvedge"
        shutil.rmtree(target, ignore_errors=True)
        for source in self._sources():
            copy = target / source.relative_to(HERE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".py":
                copy.write_text(self._renamed(source), encoding="utf-8")
            else:
                shutil.copyfile(source, copy)
        # The distribution's front door is that of the package.
        (target / "__init__.py").write_text(self._renamed(HERE / "pipeline" / "__init__.py"), encoding="utf-8")
        shutil.copyfile(HERE / "pipeline" / "py.typed", target / "py.typed")

    def get_source_files(self) -> list[str]:
        """What the build is made from."""
        return [str(source.relative_to(HERE)) for source in self._sources()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What `run` wrote."""
        target = Path(self.build_lib) / "selvedge"
        return [str(path) for path in target.rglob("*") if path.is_file()]

    @staticmethod
    def _sources() -> list[Path]:
        return sorted({path for folder in FOLDERS for kind in FILES for path in (HERE / folder).rglob(kind)})

    @staticmethod
    def _renamed(source: Path) -> str:
        return IMPORT.sub(r"\1selvedge.\2", source.read_text(encoding="utf-8"))


setup(cmdclass={"build_py": BuildUnderOneName})
