"""Epochs over the pixels: train, judge on validation, keep the best, write a checkpoint; again from there after a kill.

Order, augmentation and dropout of an epoch depend on the seed and the epoch's number alone, and rates, best epoch and
early stopping on the history alone. So a training that goes on from a checkpoint repeats the numbers of one that was
never disturbed, bit for bit on a CPU with the same number of threads; a GPU's sums may differ in their last bits.

The classifier starts at zero: the first step moves it alone, and no noise of a random one goes through the backbone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Int64, Pixels
from pipeline.errors import HeadError, RunError
from pipeline.features.backbone.network import Backbone
from pipeline.finetuning.augment import augment
from pipeline.finetuning.checkpoint import NAME, load_checkpoint, save_checkpoint
from pipeline.finetuning.checkpoint_content import check_moments, check_state
from pipeline.finetuning.examples import Examples
from pipeline.finetuning.model import Model, autocast_type, make_optimizer
from pipeline.finetuning.objective import Objective, score
from pipeline.finetuning.stages import Part
from pipeline.heads.schedules import RUNS_WHOLE, LearningRateSchedule
from pipeline.options import FinetuneOptions
from pipeline.system import choose_device, parsed


@dataclass(frozen=True)
class Callbacks:
    """Who is told how it goes: a line per epoch, and photos done of all."""

    say: Callable[[str], None] = lambda text: None
    decoded: Callable[[int, int], None] | None = None
    trained: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished training: the backbone's tensors of its best epoch, the record of every epoch, where it started."""

    net: Mapping[str, Tensor]
    best_epoch: int
    history: tuple[Mapping[str, float], ...]
    resumed_from: int


class Training:
    """One backbone on its way from its start weights to those of the best epoch.

    Args:
        backbone: Where it starts; its network is trained in place.
        objective: What is minimised.
        values: V, the values of the attribute.
        options: How.

    Raises:
        OptionError: a part, device or precision that cannot be had.
    """

    def __init__(self, backbone: Backbone, objective: Objective, values: int, options: FinetuneOptions) -> None:
        self._options = options
        self._device = torch.device(choose_device(options.device))
        self._type = autocast_type(options.amp, self._device)
        self._part = Part(backbone.net, options.train, options.norm)
        self._objective = replace(objective, weights=objective.weights.to(self._device))
        self._model = Model(backbone, values).to(self._device)
        self._part.mark()
        if self._device.type == "cuda":
            self._model = self._model.to(memory_format=torch.channels_last)
        self._optimizer = make_optimizer(self._part.parameters(), self._model.classifier, options)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._type is torch.float16)
        self._history: list[dict[str, float]] = []
        self._best: dict[str, Tensor] = {}

    def run(self, train: Examples, validation: Examples, folder: Path, callbacks: Callbacks) -> Outcome:
        """Train until the epochs or the patience are used up, from the folder's checkpoint where it has one.

        Args:
            train: Photos that move the weights.
            validation: Photos that choose the epoch.
            folder: Where the checkpoint is.
            callbacks: Who is told how it goes.

        Raises:
            RunError: The checkpoint is damaged.
            HeadError: The training diverges.
        """
        steps = -(-len(train.rows) // self._options.batch_size)
        rate = LearningRateSchedule(self._options, steps)
        self._resume(folder)
        resumed = len(self._history)
        if resumed:
            callbacks.say(f"  going on after epoch {resumed}")
        for record in self._history:
            rate.observe(record["train_loss"])
        while len(self._history) < self._options.epochs and not self._patience_is_used_up():
            self._advance(train, validation, rate, steps, callbacks)
            save_checkpoint(folder, self._state())
        net = {name: tensor for name, tensor in self._best.items() if name.startswith("features.net.")}
        clean = {name.removeprefix("features.net."): tensor for name, tensor in net.items()}
        return Outcome(clean, self._best_epoch(), tuple(self._history), resumed)

    def _advance(
        self, train: Examples, validation: Examples, rate: LearningRateSchedule, steps: int, callbacks: Callbacks
    ) -> None:
        started, epoch = time.perf_counter(), len(self._history)
        train_loss = self._train_epoch(train, epoch, steps, rate, callbacks)
        loss, value = self._judge(validation)
        if not (math.isfinite(train_loss) and math.isfinite(loss)):
            raise HeadError(
                f"epoch {epoch + 1} ended with a training loss of {train_loss} and a validation loss of {loss}; "
                "try a smaller --lr (or --amp off)"
            )
        record = {"epoch": epoch + 1, "lr": rate.at(epoch, 0), "train_loss": train_loss}
        record |= {"validation_loss": loss, "validation_score": value, "seconds": time.perf_counter() - started}
        rate.observe(train_loss)
        self._history.append(record)
        if self._best_epoch() == epoch + 1:
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in self._model.state_dict().items()}
        callbacks.say(
            f"  epoch {epoch + 1}/{self._options.epochs}: loss {train_loss:.4f}, validation loss {loss:.4f}, "
            f"score {value:.4f}, lr {record['lr']:.2g}, {record['seconds']:.1f} s"
        )

    def _train_epoch(
        self, train: Examples, epoch: int, steps: int, rate: LearningRateSchedule, callbacks: Callbacks
    ) -> float:
        rng = np.random.default_rng([self._options.seed, epoch])
        batches = np.array_split(rng.permutation(len(train.rows)), steps)
        total = torch.zeros(2, dtype=torch.float64, device=self._device)
        done = epoch * len(train.rows)
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**31)))
            self._part.train_mode()
            for step, (pixels, Y) in enumerate(self._loaded(train, batches)):
                for group in self._optimizer.param_groups:
                    group["lr"] = rate.at(epoch, step) * group["share"]
                images = augment(pixels, self._options.hflip, self._options.crop, rng)
                total += self._step(images, Y)
                done += len(Y)
                if callbacks.trained is not None:
                    callbacks.trained(done, self._options.epochs * len(train.rows))
        return float(total[0] / total[1])

    def _step(self, images: Tensor, Y: Tensor) -> Tensor:
        """One update; returns the batch's sum of losses and sum of weights."""
        with torch.autocast(self._device.type, self._type, enabled=self._type is not None):
            logits = self._model(images)
        loss, weight = self._objective.loss(logits, Y)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss / weight).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return torch.stack([loss.detach(), weight]).double()

    def _judge(self, validation: Examples) -> tuple[float, float]:
        """Loss and score on the validation photos as `extract` would show them."""
        self._model.eval()
        steps = -(-len(validation.rows) // self._options.batch_size)
        total, logits = torch.zeros(2, dtype=torch.float64, device=self._device), []
        with torch.inference_mode():
            for pixels, Y in self._loaded(validation, np.array_split(np.arange(len(validation.rows)), steps)):
                with torch.autocast(self._device.type, self._type, enabled=self._type is not None):
                    outputs = self._model(pixels.to(torch.float32)).float()
                total += torch.stack(self._objective.loss(outputs, Y)).double()
                logits.append(outputs.cpu().numpy())
        return float(total[0] / total[1]), score(np.concatenate(logits), validation.Y, self._objective.single)

    def _loaded(self, examples: Examples, batches: list[Int64]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels and targets of each batch on the device; the next one is decoded while this one computes."""
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(examples.photos.take, examples.rows[batches[0]])
            for at, following in zip(batches, [*batches[1:], None], strict=True):
                pixels = coming.result()
                if following is not None:
                    coming = ahead.submit(examples.photos.take, examples.rows[following])
                yield self._moved(pixels), torch.from_numpy(examples.Y[at]).to(self._device)

    def _moved(self, pixels: Pixels) -> Tensor:
        tensor = torch.from_numpy(pixels)
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else tensor

    def _best_epoch(self) -> int:
        """The first epoch (from 1) that no other one beats on validation."""
        if self._options.monitor == "loss":
            return 1 + int(np.argmin([record["validation_loss"] for record in self._history]))
        return 1 + int(np.argmax([record["validation_score"] for record in self._history]))

    def _patience_is_used_up(self) -> bool:
        if not self._history or self._options.schedule in RUNS_WHOLE:
            return False
        return len(self._history) - self._best_epoch() >= self._options.patience

    def _state(self) -> dict[str, Any]:
        return {
            "history": self._history,
            "model": self._model.state_dict(),
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def _resume(self, folder: Path) -> None:
        held = load_checkpoint(folder)
        if held is None:
            return
        with parsed(RunError, f"{folder / NAME} does not fit this training (", "); remove it to start again", lines=2):
            check_state(held, self._state())
            self._model.load_state_dict(held["model"])
            self._optimizer.load_state_dict(held["optimizer"])
            check_moments(self._optimizer)
            self._scaler.load_state_dict(held["scaler"])
            self._history, self._best = [dict(record) for record in held["history"]], dict(held["best"])
