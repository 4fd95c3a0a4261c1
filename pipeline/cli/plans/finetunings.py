"""The section `finetunings` of a plan: networks to train before vectors are extracted with them.

finetunings:                        # any backbone and finetune option
  stage1: {backbone: resnet18, attribute: [category], epochs: 13}
  stage2: {start: stage1, head: mlp, epochs: 8}
extractions:
  tuned: {finetuned: stage2}        # its backbone, size and resize; the block pooled unless it says otherwise
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import OptionError
from pipeline.names import wrong_name
from pipeline.options import BackboneOptions
from pipeline.options.forms.words import words_of

Options = Mapping[str, Any]
START, FINETUNED = "start", "finetuned"
_BACKBONE = tuple(field.name for field in fields(BackboneOptions))


@dataclass(frozen=True)
class Finetunings:
    """The networks of a plan.

    Attributes:
        options: Of each, by name, those of the command line laid over them.
        out: Folder of the plan.
    """

    options: Mapping[str, Options]
    out: Path

    def weights(self, name: str) -> Path:
        """The weights file of one of them."""
        return self.out / FINETUNED / name / "backbone.safetensors"

    def chain(self, name: str, where: str) -> tuple[str, ...]:
        """The networks that one is trained from, the first one first, and itself.

        Raises:
            OptionError: There is no such network, or it starts from itself.
        """
        names: list[str] = []
        while name:
            if name not in self.options:
                raise OptionError(f"{where}: no finetuning {name!r}; there are {', '.join(self.options) or 'none'}")
            if name in names:
                raise OptionError(f"{where}: the finetuning {name!r} starts from itself")
            if wrong := wrong_name(name):
                raise OptionError(f"{where}: the name {name!r} {wrong}; its folder is named by it")
            names.insert(0, name)
            name = str(self.options[name].get(START) or "")
        return tuple(names)

    def words(self, name: str, shared: Options) -> tuple[str, ...]:
        """The command that trains one of them, without its split; `shared` are the options of the data."""
        # An empty list takes back what a shared mapping says, as `attribute: []` for all of them.
        mine = {option: value for option, value in self.options[name].items() if option != START and value != []}
        mine = self._backbone(name, name) | mine
        if start := self.options[name].get(START):
            mine["weights"] = self.weights(str(start))
        return words_of({**shared, **mine, "out": self.out / FINETUNED / name})

    def extraction(self, name: str, options: Options, where: str) -> dict[str, Any]:
        """Options of an extraction with one of them."""
        rest = {option: value for option, value in options.items() if option != FINETUNED}
        own = self._backbone(name, where)
        return {"features": ["pooled"], **own, **rest, "weights": str(self.weights(name))}

    def _backbone(self, name: str, where: str) -> dict[str, Any]:
        """The backbone's options: those of the first network of its chain, that the others start from."""
        first = self.options[self.chain(name, where)[0]]
        return {option: first[option] for option in _BACKBONE if option in first}
