"""Epochs over the pixels: train, judge on validation, keep the best, write a checkpoint; again from there after a kill.

Order, augmentation and dropout of an epoch depend on the seed and the epoch's number alone, and rates, best epoch and
early stopping on the history alone. So a training that goes on from a checkpoint repeats the numbers of one that was
never disturbed, bit for bit on a CPU with the same number of threads; a GPU's sums may differ in their last bits.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Float32
from pipeline.catalogue import LabelSchema
from pipeline.errors import HeadError, RunError
from pipeline.features.backbone.network import Backbone
from pipeline.finetuning.checkpoint import NAME, load_checkpoint, save_checkpoint
from pipeline.finetuning.checkpoint_content import check_moments, check_state
from pipeline.finetuning.examples import Examples
from pipeline.finetuning.network.averaging import SHARES, averaged_model, between
from pipeline.finetuning.network.folding import fold_frozen_norms
from pipeline.finetuning.network.model import Model, autocast_type, make_optimizer
from pipeline.finetuning.network.objective import Objective, attribute_scores
from pipeline.finetuning.network.stages import Part
from pipeline.finetuning.outcome import Callbacks, Judgement, Outcome, Record, State, epoch_line
from pipeline.finetuning.photos.augment import Augmentation
from pipeline.finetuning.photos.batches import in_order, loaded
from pipeline.finetuning.photos.squares import squares
from pipeline.heads.schedules import RUNS_WHOLE, LearningRateSchedule
from pipeline.machine import choose_device
from pipeline.options import FinetuneOptions
from pipeline.system import parsed


class Training:
    """One network on its way from its start weights to those that are kept.

    Args:
        backbone: Where it starts; its network is trained in place.
        objective: What is minimised.
        schema: The attributes.
        augmentation: How photos are changed.
        options: How.

    Raises:
        OptionError: a part, device or precision that cannot be had.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        schema: LabelSchema,
        augmentation: Augmentation,
        options: FinetuneOptions,
    ) -> None:
        self._options, self._schema, self._augmentation = options, schema, augmentation
        self._squares = squares(options, backbone.transform.size)
        self._device = torch.device(choose_device(options.device))
        self._type = autocast_type(options.amp, self._device)
        self._part = Part(backbone.net, options.train, options.norm)
        self._objective, self._plain = objective.to(self._device), objective.plain().to(self._device)
        self._start = {name: tensor.detach().cpu().clone() for name, tensor in backbone.net.state_dict().items()}
        self._model = self._new_model(backbone).to(self._device)
        if self._device.type == "cuda":
            self._model = self._model.to(memory_format=torch.channels_last)
        # Before norms are folded, which a copy would not survive.
        self._average = averaged_model(self._model, options.ema) if options.ema else None
        self._part.mark()
        if options.norm == "frozen":
            fold_frozen_norms(backbone.net, backbone.transform.size)
        self._optimizer = make_optimizer(self._model, self._part, options)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._type is torch.float16)
        self._history: list[Record] = []
        self._best: State = {}

    def _new_model(self, backbone: Backbone) -> Model:
        sizes = [len(values) for values in self._schema.values]
        with torch.random.fork_rng([]):
            torch.manual_seed(self._options.seed)
            return Model(backbone, sizes, self._options)

    def run(
        self,
        train: Examples,
        validation: Examples | None,
        folder: Path,
        callbacks: Callbacks,
        interpolation: float = 1.0,
    ) -> Outcome:
        """Train until the epochs or the patience are used up, from the folder's checkpoint where it has one.

        A training whose loss stops being a number ends there: what was best before is kept, and the outcome says so.

        Args:
            train: Photos that move the weights.
            validation: Photos that choose the epoch; None to train all epochs and keep the last.
            folder: Where the checkpoint is.
            callbacks: Who is told how it goes.
            interpolation: Without validation photos, the share of the way from the start that is kept.

        Raises:
            RunError: The checkpoint is damaged.
            HeadError: The training diverges in its first epoch.
        """
        steps = -(-len(train.rows) // self._options.batch_size)
        rate = LearningRateSchedule(self._options, steps)
        self._resume(folder)
        resumed, stopped = len(self._history), ""
        if resumed:
            callbacks.say(f"  going on after epoch {resumed}")
        for record in self._history:
            rate.observe(record["train_loss"])
        while len(self._history) < self._options.epochs and not self._patience_is_used_up():
            if stopped := self._advance(train, validation, rate, steps, callbacks):
                break
            save_checkpoint(folder, self._state())
        shares = (interpolation,) if validation is None else self._shares()
        return self._outcome(validation, shares, resumed, stopped)

    def _shares(self) -> tuple[float, ...]:
        return SHARES if self._options.interpolate == "auto" and self._options.train != "head" else SHARES[:1]

    def _advance(
        self, train: Examples, validation: Examples | None, rate: LearningRateSchedule, steps: int, callbacks: Callbacks
    ) -> str:
        """One epoch more; why there can be no other, where its loss is no number."""
        started, epoch = time.perf_counter(), len(self._history)
        train_loss = self._train_epoch(train, epoch, steps, rate, callbacks)
        judged = None if validation is None else self._judge(self._judged, validation)
        if not (math.isfinite(train_loss) and (judged is None or math.isfinite(judged.loss))):
            on_validation = "" if judged is None else f" and a validation loss of {judged.loss}"
            said = f"epoch {epoch + 1} ended with a training loss of {train_loss}{on_validation}"
            if not self._history:
                raise HeadError(f"{said}; try a smaller --lr (or --amp off)")
            return f"{said}: epoch {self._best_epoch()} is kept; a smaller --lr (or --amp off) may go further"
        record = {"epoch": epoch + 1, "lr": rate.at(epoch, 0), "train_loss": train_loss}
        record |= {} if judged is None else {"validation_loss": judged.loss, "validation_score": judged.score}
        record |= {"seconds": time.perf_counter() - started}
        rate.observe(train_loss)
        self._history.append(record)
        if self._best_epoch() == epoch + 1:
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in self._judged.state_dict().items()}
        callbacks.say(epoch_line(record, self._options.epochs))
        return ""

    @property
    def _judged(self) -> torch.nn.Module:
        """The weights that are judged and kept: averaged, or as they are."""
        if self._average is None:
            return self._model
        return self._average.module

    def _train_epoch(
        self, train: Examples, epoch: int, steps: int, rate: LearningRateSchedule, callbacks: Callbacks
    ) -> float:
        rng = np.random.default_rng([self._options.seed, epoch])
        batches = np.array_split(rng.permutation(len(train.rows)), steps)
        total = torch.zeros(2, dtype=torch.float64, device=self._device)
        done, size = epoch * len(train.rows), self._squares[epoch]
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**31)))
            self._part.train_mode()
            self._model.heads.train()
            for step, (pixels, Y, mask) in enumerate(loaded(train, batches, self._device)):
                for group in self._optimizer.param_groups:
                    group["lr"] = rate.at(epoch, step) * group["share"]
                images = self._augmentation.seen(pixels, size, rng)
                total += self._step(*self._augmentation.mixed(images, Y.float(), mask, rng))
                done += len(Y)
                if callbacks.trained is not None:
                    callbacks.trained(done, self._options.epochs * len(train.rows))
        return float(total[0] / total[1])

    def _step(self, images: Tensor, Y: Tensor, mask: Tensor) -> Tensor:
        """One update; returns the batch's sum of losses and sum of weights."""
        with torch.autocast(self._device.type, self._type, enabled=self._type is not None):
            logits = self._model(images)
        loss, weight = self._objective.loss(logits, Y, mask)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss / weight.clamp(min=1e-9)).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self._model)
        return torch.stack([loss.detach(), weight]).double()

    def _judge(self, model: torch.nn.Module, validation: Examples) -> Judgement:
        """Loss and scores on the validation photos as `extract` would show them."""
        model.eval()
        total, logits = torch.zeros(2, dtype=torch.float64, device=self._device), []
        with torch.inference_mode():
            for pixels, Y, mask in loaded(validation, in_order(validation, self._options.batch_size), self._device):
                with torch.autocast(self._device.type, self._type, enabled=self._type is not None):
                    outputs = model(pixels.to(torch.float32)).float()
                total += torch.stack(self._plain.loss(outputs, Y, mask)).double()
                logits.append(outputs.cpu().numpy())
        every: Float32 = np.concatenate(logits)
        scores = attribute_scores(every, validation.Y, validation.mask, self._schema)
        return Judgement(float(total[0] / total[1].clamp(min=1e-9)), scores)

    def _outcome(self, validation: Examples | None, shares: tuple[float, ...], resumed: int, stopped: str) -> Outcome:
        """What is kept: the best epoch, its backbone as near to the start as validation likes it."""
        history, best = tuple(self._history), self._best_epoch()
        states = {share: between(self._start, self._best, share) for share in shares}
        if validation is None:
            ((share, state),) = states.items()
            return Outcome(state, best, history, resumed, share, {}, stopped)
        model, judged = self._judged, dict[float, Judgement]()
        for share, state in states.items():
            model.load_state_dict(state)
            judged[share] = self._judge(model, validation)
        by_loss = self._options.monitor == "loss"
        share = min(judged, key=lambda each: judged[each].loss if by_loss else -judged[each].score)
        return Outcome(states[share], best, history, resumed, share, judged[share].scores, stopped)

    def _best_epoch(self) -> int:
        """The epoch (from 1) that is kept: the first that is best, or the last one of a schedule that ran whole."""
        ran_whole = self._options.schedule in RUNS_WHOLE and len(self._history) == self._options.epochs
        if ran_whole or "validation_loss" not in self._history[-1]:
            return len(self._history)
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
            "average": {} if self._average is None else self._average.state_dict(),
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
            if self._average is not None:
                self._average.load_state_dict(held["average"])
            self._optimizer.load_state_dict(held["optimizer"])
            check_moments(self._optimizer)
            self._scaler.load_state_dict(held["scaler"])
            self._history, self._best = [dict(record) for record in held["history"]], dict(held["best"])
