"""What a reproduction has begun and finished in its folder, so that it goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.plans.plan import Plan, Step, Words
from pipeline.errors import RunError
from pipeline.names import BEGUN
from pipeline.shapes import mapping, record, sequence, text
from pipeline.system import parsed, read_text, write_text

_STATE = record({"split": sequence(text), "runs": mapping(sequence(text))})
_MOST_BYTES = 16 * 2**20


class PlanState:
    """plan.json beside the run folders: the options every run was begun with.

    Raises:
        RunError: The folder was begun with another split, or holds a finished run of other options, or, where a run is
            to go, a folder that no reproduction began.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.path = plan.out / "plan.json"
        self._begun: dict[str, list[str]] = {}
        if self.path.exists():
            self._read()
        for run in plan.runs:
            self._check(run)

    def finished(self, run: Step) -> bool:
        """Whether the run folder is whole."""
        return (self.plan.folder(run) / "run.json").is_file()

    def folders(self) -> list[Path]:
        """Folders of the finished runs, in the order of the plan."""
        return [self.plan.folder(run) for run in self.plan.runs if self.finished(run)]

    def begin(self, run: Step) -> Words:
        """Note that a run begins, and give the words of its command.

        What an interrupted try left is removed: a folder with our mark. The new folder is marked before anything else
        is in it.

        Raises:
            RunError: something is in its place that is not ours; nothing was touched.
        """
        folder = self.plan.folder(run)
        self._accept(folder)
        if (folder / BEGUN).is_file():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BEGUN).write_text(
            "unfinished until run.json is here; the command that began this folder may remove it\n"
        )
        self._begun[run.name] = list(run.words)
        self._write()
        return (*run.words, *self.split(), "--out", str(folder))

    def split(self) -> Words:
        """Words of the split: the first finished run's, else that of the plan."""
        done = self.folders()
        return ("--split-from", str(done[0])) if done else self.plan.split

    def write_notes(self, notes: Sequence[str]) -> Path:
        """notes.txt, one line per note, for the table and the report page."""
        path = self.plan.out / "notes.txt"
        write_text(path, "".join(f"{' '.join(note.split())}\n" for note in notes))
        return path

    def _read(self) -> None:
        with parsed(RunError, f"{self.path} cannot be read (", "); remove it, or name another --out"):
            content = json.loads(read_text(self.path, _MOST_BYTES))
            _STATE(content, "")
            split, self._begun = content["split"], dict(content["runs"])
        if self._begun and split != list(self.plan.split):
            raise RunError(
                f"{self.plan.out} was begun with the split {' '.join(split)}, now asked for "
                f"{' '.join(self.plan.split)}; name another folder with --out, or remove it"
            )

    def _accept(self, folder: Path) -> None:
        """Raise RunError unless a run may begin here: nothing is there, an empty folder, or one that bears our mark."""
        if not folder.exists() and not folder.is_symlink():
            return
        own = folder.is_dir() and not folder.is_symlink()
        if not own or (any(folder.iterdir()) and not (folder / BEGUN).is_file()):
            raise RunError(
                f"{folder} is in the way: it holds something that was not begun here, and was left as it is; "
                "move it, or name another folder with --out"
            )

    def _check(self, run: Step) -> None:
        if not self.finished(run):
            self._accept(self.plan.folder(run))
            return
        before = self._begun.get(run.name)
        if before != list(run.words):
            now = [word for word in run.words if word not in (before or ())]
            raise RunError(
                f"{self.plan.folder(run)} was made with other options (new or changed: {' '.join(now) or 'fewer'}); "
                "name another folder with --out, or remove it"
            )

    def _write(self) -> None:
        content = {"split": list(self.plan.split), "runs": self._begun}
        write_text(self.path, json.dumps(content, indent=1) + "\n")
