"""What a training tells while it runs, and what it gives in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Record = dict[str, float]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Callbacks:
    """Who is told how it goes: a line per epoch, and photos done of all."""

    say: Callable[[str], None] = lambda text: None
    decoded: Callable[[int, int], None] | None = None
    trained: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        state: Tensors of the model that is kept, on the CPU.
        best_epoch: The epoch (from 1) they are of.
        history: The record of every epoch.
        resumed_from: Epochs that were there when it began.
        interpolation: How far the backbone is from its start, as a share of where training led; 1 is all of it.
        scores: Of what is kept, on validation: per attribute accuracy, or micro F1.
        stopped: Why it ended before its epochs were used up, where that is worth telling.
    """

    state: Mapping[str, Tensor]
    best_epoch: int
    history: tuple[Mapping[str, float], ...]
    resumed_from: int
    interpolation: float
    scores: Mapping[str, float]
    stopped: str = ""


@dataclass(frozen=True)
class Judgement:
    """Loss and scores on validation photos."""

    loss: float
    scores: Mapping[str, float]

    @property
    def score(self) -> float:
        """Mean over the attributes."""
        return float(np.mean(list(self.scores.values()))) if self.scores else 0.0


def epoch_line(record: Record, epochs: int) -> str:
    """How an epoch went, for people."""
    judged = ""
    if "validation_loss" in record:
        judged = f"validation loss {record['validation_loss']:.4f}, score {record['validation_score']:.4f}, "
    return (
        f"  epoch {record['epoch']}/{epochs}: loss {record['train_loss']:.4f}, {judged}lr {record['lr']:.2g}, "
        f"{record['seconds']:.1f} s"
    )
