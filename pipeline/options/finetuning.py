"""Training a backbone before it is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.options.features import Device


@dataclass(frozen=True)
class FinetuneOptions:
    """How a backbone is trained on one attribute before it is frozen.

    Attributes:
        attribute: The attribute to train on: softmax if it is single-valued, else one sigmoid per value.
        train: What trains: all, last:N (the N last stages), or head (only the new classifier).
        optimizer: adam, adamw or sgd.
        lr: Learning rate of the backbone.
        head_lr: Learning rate of the new classifier (default: 10 times that of the backbone).
        weight_decay: Weight decay; biases and norms are left alone.
        momentum: Momentum of sgd.
        betas: The two decay rates of adam and adamw.
        schedule: How the learning rates move (step: x0.1 every 7 epochs; plateau: halved when the loss stalls).
        epochs: Most epochs.
        batch_size: Photos per training step.
        patience: Epochs without a better one before training stops.
        monitor: What chooses the epoch that is kept, on validation: loss, or score (accuracy, or micro F1).
        class_weights: rarity weights each value by the share of photos without it; none weights all alike.
        hflip: Probability that a photo is mirrored.
        crop: Least share of the photo's area that a random crop keeps; 1 is off.
        norm: Whether BatchNorm keeps the statistics it came with, or those of the trained stages move.
        amp: Mixed precision: auto (bf16 on a GPU), off, bf16 or fp16.
        memory: GiB of decoded photos held in memory; more are decoded each epoch (default: half of the memory).
        workers: Decoding threads (default: the number of cores).
        device: Where to compute; auto takes the GPU when there is one.
        seed: Orders the batches and draws the augmentation.
        out: Folder of the training (default: finetuned/ and a name made of backbone and attribute); resumed if it is
            there.
    """

    attribute: str = ""
    train: str = "all"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-4
    head_lr: float | None = None
    weight_decay: float = 0.0
    momentum: float = 0.9
    betas: tuple[float, ...] = (0.9, 0.999)
    schedule: Literal["constant", "step", "plateau", "cosine", "onecycle"] = "constant"
    epochs: int = 10
    batch_size: int = 32
    patience: int = 3
    monitor: Literal["loss", "score"] = "loss"
    class_weights: Literal["rarity", "none"] = "rarity"
    hflip: float = 0.5
    crop: float = 0.7
    norm: Literal["frozen", "trained"] = "frozen"
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    memory: float | None = None
    workers: int | None = None
    device: Device = "auto"
    seed: int = 0
    out: Path | None = None
