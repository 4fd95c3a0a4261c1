"""Weights that are better than those of the last step: averaged over steps, or drawn back towards where they started.

average        a_t = d a_(t-1) + (1 - d) w_t with d = min(decay, (1 + t) / (10 + t)), so that the start is forgotten
               early (the warm-up of TensorFlow's ExponentialMovingAverage)
interpolation  start + share (trained - start) for the backbone alone (WiSE-FT, Wortsman et al. 2022); the heads
               have no start that knew anything
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pipeline.finetuning.network.model import NET

SHARES = (1.0, 0.9, 0.8, 0.65, 0.5)
"""How much of the way from the start the interpolation may keep."""


def averaged_model(model: torch.nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that follows it: call `update_parameters(model)` after every step."""
    return AveragedModel(model, multi_avg_fn=_warmed_up(decay), use_buffers=True)


def _warmed_up(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        now = min(decay, (1 + int(steps)) / (10 + int(steps)))
        for average, weight in zip(averages, weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight.to(average.dtype), 1 - now)
            else:
                average.copy_(weight)

    return update


def between(start: Mapping[str, Tensor], state: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """A model's state with its backbone at `share` of the way from the start; at 1 the state itself.

    Args:
        start: Tensors of the backbone before training, by their names in it.
        state: Tensors of the model, those of the backbone under `NET`.
    """
    if share == 1.0:
        return dict(state)
    moved = {}
    for name, tensor in state.items():
        origin = start.get(name.removeprefix(NET)) if name.startswith(NET) else None
        moves = origin is not None and tensor.is_floating_point()
        moved[name] = torch.lerp(origin.to(tensor), tensor, share) if moves and origin is not None else tensor
    return moved
