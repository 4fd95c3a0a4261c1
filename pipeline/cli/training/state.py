"""What a training has begun and finished in its folder: the same command goes on, or begins anew with new photos.

train.json        what was asked for, of which photos and labels, and which of the last steps are done
plan.json, runs/  the fits (`pipeline.cli.plans.state`)
earlier/<n>/      the runs of the catalogue as it was before: nothing that was measured is thrown away
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cache import FeatureCache
from pipeline.catalogue import Catalogue
from pipeline.cli.training.plan import Training
from pipeline.cli.training.recipe import LARGER_SQUARE, Recipe
from pipeline.errors import RunError
from pipeline.names import wrong_name
from pipeline.options.forms.words import typed
from pipeline.shapes import mapping, one_of, optional, record, sequence, text
from pipeline.system import parsed, read_text, write_json

_FORMAT = "selvedge-training"
_STATE = record(
    {
        "format": one_of(_FORMAT),
        "recipe": optional(text),
        "asked": sequence(sequence(text)),
        "catalogue": text,
        "done": mapping(text),
    }
)
_MOST_BYTES = 2**20


class TrainingState:
    """train.json of a training's folder.

    Raises:
        RunError: The folder holds something else, or a training of other options.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.path = training.out / "train.json"
        self._asked = [[command, *words] for command, words in training.commands]
        self._catalogue = ""
        self._done: dict[str, str] = {}
        self._new = not self.path.exists()
        if self.path.exists():
            self._read()
        elif training.out.is_dir() and (other := _something(training.out)):
            raise RunError(f"{training.out} holds something that is no training ({other}); name another with --out")

    def begin(self, digest: str) -> Path | None:
        """Note what is trained on.

        Args:
            digest: Of the catalogue's photos and labels.

        Returns:
            Where the runs of another state of the catalogue went; None where there were none.
        """
        runs, earlier = self.training.out / "runs", None
        if self._catalogue not in ("", digest) and runs.is_dir():
            earlier = _next(self.training.out / "earlier")
            earlier.parent.mkdir(exist_ok=True)
            runs.rename(earlier)
        tuned = self.training.out / "finetuned"
        if self._catalogue not in ("", digest) and tuned.is_dir() and "finetune" not in self._done:
            # Begun on other photos, it could not go on.
            earlier = earlier or _next(self.training.out / "earlier")
            earlier.mkdir(parents=True, exist_ok=True)
            tuned.rename(earlier / "finetuned")
        if self._catalogue != digest:
            # What was learnt for the backbone holds for new photos too: vectors of both would not go together.
            kept = {step: result for step, result in self._done.items() if step == "finetune"}
            self._catalogue, self._done = digest, kept
        self._write()
        return earlier

    def withdraw(self) -> None:
        """Forget a training that could not even be estimated, so that the folder is free for one with other words."""
        if self._new:
            self.path.unlink(missing_ok=True)

    def done(self, step: str, result: Path) -> bool:
        """Whether one of the last steps is done, and what it gave is still there."""
        return self._done.get(step) == str(result) and result.is_file()

    def finish(self, step: str, result: Path) -> None:
        """Note that a step is done and what it gave."""
        self._done[step] = str(result)
        self._write()

    def _read(self) -> None:
        content = _content(self.path)
        if content["asked"] != self._asked:
            before = next(each for each in [*content["asked"], []] if each not in self._asked)
            now = next(each for each in [*self._asked, []] if each not in content["asked"])
            raise RunError(
                f"{self.training.out} was begun with other options (then `{typed(before)}`, now `{typed(now)}`); "
                "name another folder with --out, or remove it"
            )
        self._catalogue, self._done = content["catalogue"], content["done"]

    def _write(self) -> None:
        content = {"format": _FORMAT, "recipe": self.training.recipe.preset, "asked": self._asked}
        write_json(self.path, {**content, "catalogue": self._catalogue, "done": self._done})


def begun_with(out: Path) -> Recipe | None:
    """The preset and the square that the training of a folder was begun with; None where there is no training.

    Raises:
        RunError: train.json is damaged.
    """
    path = out / "train.json"
    if not path.exists():
        return None
    content = _content(path)
    preset: str | None = content["recipe"]
    if preset is not None and (wrong := wrong_name(preset)):
        raise RunError(f"{path}: the recipe {preset!r} {wrong}; remove it, or name another folder with --out")
    larger = ["--size", str(LARGER_SQUARE)]
    enlarged = any(command == "finetune" and words[-4:-2] == larger for command, *words in content["asked"] if words)
    return Recipe(preset, "as begun", square=LARGER_SQUARE if enlarged else None)


def digest_of(catalogue: Catalogue, cache: Path) -> str:
    """SHA-256 (hex) of a catalogue's names, labels and photos, whose bytes the cache's index of files knows."""
    from pipeline.features.contents.ids import content_ids

    ids, _ = content_ids(FeatureCache(cache), catalogue.paths)
    return hashlib.sha256(catalogue.digest.encode() + ids.tobytes()).hexdigest()


def _content(path: Path) -> dict[str, Any]:
    with parsed(RunError, f"{path} cannot be read (", "); remove it, or name another folder with --out"):
        content: dict[str, Any] = json.loads(read_text(path, _MOST_BYTES))
        _STATE(content, "")
    return content


def _something(folder: Path) -> str:
    """A name of what lies in a folder, "" when nothing but hidden files does."""
    return next((path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")), "")


def _next(folder: Path) -> Path:
    """The first number in a folder that names nothing yet."""
    number = 1
    while (folder / str(number)).exists():
        number += 1
    return folder / str(number)
