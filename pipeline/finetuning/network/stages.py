"""Which part of a backbone trains, and that nothing else of it moves.

Stages are timm's coarse layer groups: the stem, then each stage (each block of a transformer), the last one with the
layers that follow it. What does not train has no gradients and stays in evaluation mode, so that its BatchNorm
statistics do not move either.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from timm.models import group_parameters
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import OptionError


class Part:
    """The trained part of a network: `mark` it once, `train_mode` before every epoch.

    Args:
        net: A timm model without classifier.
        train: all, last:N (the N last stages) or head (nothing of the network).
        norm: frozen (BatchNorm keeps its statistics everywhere) or trained (those of the trained part move).

    Raises:
        OptionError: `train` is none of these, or there are fewer stages.
    """

    def __init__(self, net: torch.nn.Module, train: str, norm: str) -> None:
        self._net, self._norm = net, norm
        groups = group_parameters(net, net.group_matcher(coarse=True))  # type: ignore[operator]
        stages = [groups[number] for number in sorted(groups)]
        self._trained = stages[len(stages) - _count(train, len(stages)) :]
        self.names = frozenset(name for stage in self._trained for name in stage)
        self.stages = len(stages)

    def mark(self) -> None:
        """Give gradients to the trained part and to nothing else."""
        for name, parameter in self._net.named_parameters():
            parameter.requires_grad_(name in self.names)

    def train_mode(self) -> None:
        """Training mode for the trained part, evaluation mode for the rest.

        A module without parameters, such as dropout, goes with the nearest one around it that has some; a module
        around trained and frozen parameters counts as frozen.
        """
        self._net.eval()
        owned = [(name, list(module.named_parameters())) for name, module in self._net.named_modules()]
        having = {name for name, parameters in owned if parameters}
        for name, module in self._net.named_modules():
            around = next((outer for outer in _outward(name) if outer in having), None)
            if around is None or (self._norm == "frozen" and isinstance(module, _BatchNorm)):
                continue
            inside = (around + "." if around else "",)
            module.training = all(p in self.names for p, _ in self._net.named_parameters() if p.startswith(inside))

    def parameters(self) -> list[torch.nn.Parameter]:
        """The parameters that train."""
        return [parameter for name, parameter in self._net.named_parameters() if name in self.names]

    def by_stage(self) -> list[list[torch.nn.Parameter]]:
        """The parameters that train, stage by stage, the first one first."""
        named = dict(self._net.named_parameters())
        return [[named[name] for name in stage] for stage in self._trained]


def _count(train: str, stages: int) -> int:
    if train in ("all", "head"):
        return stages if train == "all" else 0
    number = train.removeprefix("last:")
    if number == train or not number.isdecimal() or not 1 <= int(number) <= stages:
        raise OptionError(f"--train is {train!r}; it can be all, head, or last:N with N from 1 to {stages} stages")
    return int(number)


def _outward(name: str) -> Iterator[str]:
    """The module itself, then the modules around it, the network ("") last."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""
