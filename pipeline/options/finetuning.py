"""Training a backbone before it is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.options.features import Device


@dataclass(frozen=True)
class FinetuneOptions:
    """How a network is trained on the pixels, under a head per attribute, before its backbone is frozen.

    Attributes:
        attribute: Attributes of the catalogue to train on (default: all of them).
        train: What trains: all, last:N (the N last stages), or head (only the new heads).
        head: linear, or mlp: a hidden layer for each attribute.
        hidden: Units of that hidden layer.
        dropout: Share of what the heads' last layer sees that is dropped while training.
        loss: What is minimised for a single-valued attribute: ce (softmax), or bce as for all others (a sigmoid for
            each value).
        class_weights: rarity weights each value by the share of photos without it; none weights all alike.
        label_smoothing: Share of a softmax target spread over the other values.
        logit_adjust: Strength of logit adjustment for rare values (0 is off).
        optimizer: adam, adamw or sgd.
        lr: Learning rate of the backbone.
        head_lr: Learning rate of the new heads (default: 3 times that of the backbone).
        layer_decay: Learning rate of a stage as a share of that of the stage above it (1: all alike).
        weight_decay: Weight decay; biases and norms are left alone.
        momentum: Momentum of sgd.
        betas: The two decay rates of adam and adamw.
        schedule: How the learning rates move (step: x0.1 every 7 epochs; plateau: halved when the loss stalls).
        epochs: Most epochs.
        batch_size: Photos per training step.
        patience: Epochs without a better one before training stops (cosine and onecycle run their whole length).
        monitor: What chooses the epoch that is kept, on validation: loss, or score (mean over attributes of accuracy,
            or micro F1); cosine and onecycle keep their last one.
        ema: Decay of the moving average of the weights that is judged and kept (0 keeps the weights themselves).
        interpolate: Draw the backbone back towards its start as far as validation is better for it, or not.
        hflip: Probability that a photo is mirrored.
        crop: Least share of the photo's area that a random crop keeps; 1 is off.
        jitter: Most change of brightness, contrast and saturation (default: a little, none if an attribute is about
            colours).
        mixup: Mix two photos, by a beta distribution with this parameter (0 is off).
        randaugment: Magnitude of RandAugment, two operations per photo (0 is off).
        start_size: Side of the square in the first third of the epochs, at most --size, and half way to it in the
            second (default: --size throughout).
        refit: Train once more on training and validation photos, when everything is chosen, for `fit-heads --refit`.
        final: Train once more on every labelled photo, when everything is chosen, for a final model; the figures stay
            those of the training before.
        norm: Whether BatchNorm keeps the statistics it came with, or those of the trained stages move.
        amp: Mixed precision: auto (bf16 on a GPU, and on a processor with matrix units for it), off, bf16 or fp16.
        memory: GiB of decoded photos held in memory; more are decoded each epoch (default: half of the memory).
        workers: Decoding threads (default: the number of cores).
        device: Where to compute; auto takes the GPU when there is one.
        seed: Orders the batches, draws the augmentation, and starts the hidden layers of mlp.
        out: Folder of the training (default: finetuned/ and a name made of backbone and attributes); resumed if it is
            there.
    """

    attribute: tuple[str, ...] = ()
    train: str = "all"
    head: Literal["linear", "mlp"] = "linear"
    hidden: int = 256
    dropout: float = 0.0
    loss: Literal["ce", "bce"] = "ce"
    class_weights: Literal["rarity", "none"] = "none"
    label_smoothing: float = 0.1
    logit_adjust: float = 0.0
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    head_lr: float | None = None
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    momentum: float = 0.9
    betas: tuple[float, ...] = (0.9, 0.999)
    schedule: Literal["constant", "step", "plateau", "cosine", "onecycle"] = "onecycle"
    epochs: int = 8
    batch_size: int = 64
    patience: int = 3
    monitor: Literal["loss", "score"] = "loss"
    ema: float = 0.998
    interpolate: Literal["off", "auto"] = "off"
    hflip: float = 0.5
    crop: float = 0.7
    jitter: float | None = None
    mixup: float = 0.0
    randaugment: int = 0
    start_size: int | None = None
    refit: bool = False
    final: bool = False
    norm: Literal["frozen", "trained"] = "frozen"
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    memory: float | None = None
    workers: int | None = None
    device: Device = "auto"
    seed: int = 0
    out: Path | None = None
