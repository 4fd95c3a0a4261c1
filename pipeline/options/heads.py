"""The heads that are fit on cached vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.options.features import Device

Schedule = Literal["constant", "step", "plateau", "cosine", "onecycle"]
Choose = Literal["balanced", "accuracy", "macro-f1", "all-right", "iou", "map"]
Loss = Literal["bce", "weighted-bce", "ce", "weighted-ce", "focal", "asymmetric"]


@dataclass(frozen=True)
class FitOptions:
    """Which heads are fit on the cached vectors, and how.

    Attributes:
        cache: Folder of the embedding cache.
        use: Feature blocks to use, separated by commas (default: all that every wanted view of these photos has). Of
            several kinds of vectors, each gives those of them that it has; colour comes from the first.
        views: Cached views to train and predict with (default: identity).
        vectors: Of several kinds of vectors (--backbone A,B and the like), those that heads are fit on, ways to try:
            all side by side (joined), each kind alone (each), one kind alone (its number, from 1).
        heads: linear, mlp, mlp-per-key, kernel-ridge, logreg, multinomial, lightgbm, network (those that a
            fine-tuned backbone was trained under).
        optimizers: adam, sgd, adamw, lbfgs (torch heads only).
        lr: Learning rates to try.
        weight_decay: Weight decays to try.
        momentum: Momentum of sgd.
        nesterov: Nesterov's momentum for sgd.
        betas: The two decay rates of adam and adamw.
        hidden: Hidden sizes to try for the MLP heads.
        dropout: Dropout rates to try for the MLP heads.
        input_dropout: Share of the features dropped while training.
        epochs: Most epochs a torch head is trained for.
        batch_size: Rows per training step; sizes to try.
        schedule: How the learning rate moves, ways to try (step: x0.1 every 7 epochs; plateau: halved when stalled).
        loss: What the torch heads minimise, losses to try (ce: softmax per single-valued attribute;
            weighted-ce: rare classes weigh more).
        label_smoothing: Shares of the target spread over the other values to try.
        logit_adjust: Strengths of logit adjustment for rare values to try (0 is off).
        monitor: What chooses the epoch that is kept, on validation: the lowest loss or the highest micro-f1
            (cosine and onecycle keep their last one).
        patience: Epochs without a better one before a head stops.
        halving: Drop hopeless configurations early, the worse half at epochs 1, 2, 4 and so on (successive halving).
        halving_pace: When and by what they are halved: doubling (those epochs, by the best so far) or every (each
            epoch, by where the loss is heading: of 64 configurations and 16 epochs that is 0.7 of the work).
        products: How torch heads multiply in training: fp32, or bf16 (faster, on processors with AMX; not for lbfgs).
        na: What an unknown label is: ignored, a value of its own, or none of the values.
        gate: Whether attributes that do not apply to the predicted category are silent (category) or not (none).
        threshold: How probabilities become values: auto, best, fixed:0.5 (in short 0.5) and the like, global, per-key,
            per-label (tuned for F1), precision:0.9 and the like, count (as many values as are true).
        choose: What is best, on validation: balanced is the mean over attributes of (macro F1 + accuracy) / 2, with IoU
            for accuracy where an attribute has several values; accuracy, macro-f1, all-right, iou and map are the
            figures of those names. Configurations, threshold policies and ensembles are chosen by it.
        calibrate: Fit a temperature or Platt scaling per attribute on validation and fold it into the model, where
            other validation photos gain by it.
        ensemble: Average this many of the best configurations into one more model (0 is off).
        ensemble_from: The best configurations of all (best), or the best ones of each head on each kind of vectors,
            every head counting alike, and every kind within it (each-head); networks' own heads count as much as
            validation labels say.
        refit: Fit the best once more on train and validation rows, with every choice made before.
        refit_weights: Weights whose vectors the refit takes in place of those of --weights, in the same order: a
            network of `finetune --refit`.
        final: Fit the best once more on every labelled photo, test photos included, as models/final.joblib; the figures
            stay those of the fit before.
        final_weights: Weights whose vectors the final model takes in place of those of --weights, in the same order: a
            network of `finetune --final`.
        ridge: Penalties of kernel-ridge to try.
        bandwidth: Widths of kernel-ridge's Gaussian to try, in median distances between training photos.
        landmarks: Most training photos that kernel-ridge keeps in the model.
        block_weights: Weight of each feature block in kernel-ridge's distance.
        trees: Trees per label of the LightGBM baseline, at a learning rate of 0.05.
        max_labels: Most labels the LightGBM baseline accepts.
        logreg_c: Inverse regularisation strengths of the logistic regressions (logreg, multinomial) to try.
        memory: GiB of features held in memory; more are streamed from the cache (default: half of the memory).
        device: Where to compute; auto takes the GPU when there is one.
        seed: Seeds of initialisation and dropout to try; the first one also orders the batches.
        keep: Keep predictions and models of the best per head, optimizer, loss, size and so on, or of all.
        thumbnails: Small pictures of at most this many test photos are kept for the report (0 is none).
        mlflow: Folder of a local MLflow store: also log every configuration there (needs mlflow-skinny or mlflow).
        out: Run folder (default: runs/ and a name made of the date).
    """

    cache: Path = Path("features")
    use: tuple[str, ...] = ()
    views: tuple[str, ...] = ("identity",)
    vectors: tuple[str, ...] = ("joined",)
    heads: tuple[str, ...] = ("linear", "mlp")
    optimizers: tuple[str, ...] = ("adam", "sgd")
    lr: tuple[float, ...] = ()
    weight_decay: tuple[float, ...] = (0.0,)
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, ...] = (0.9, 0.999)
    hidden: tuple[int, ...] = (512,)
    dropout: tuple[float, ...] = (0.3,)
    input_dropout: float = 0.0
    epochs: int = 30
    batch_size: tuple[int, ...] = (256,)
    schedule: tuple[Schedule, ...] = ("constant",)
    loss: tuple[Loss, ...] = ("bce",)
    label_smoothing: tuple[float, ...] = (0.0,)
    logit_adjust: tuple[float, ...] = (0.0,)
    monitor: Literal["loss", "micro-f1"] = "loss"
    patience: int = 5
    halving: bool = False
    halving_pace: Literal["doubling", "every"] = "doubling"
    products: Literal["fp32", "bf16"] = "fp32"
    na: Literal["mask", "class", "negative"] = "mask"
    gate: Literal["category", "none"] = "category"
    threshold: str = "auto"
    choose: Choose = "balanced"
    calibrate: Literal["off", "on"] = "on"
    ensemble: int = 0
    ensemble_from: Literal["best", "each-head"] = "best"
    refit: bool = False
    refit_weights: tuple[str, ...] = ()
    final: bool = False
    final_weights: tuple[str, ...] = ()
    ridge: tuple[float, ...] = (0.03,)
    bandwidth: tuple[float, ...] = (0.5,)
    landmarks: int = 8000
    block_weights: tuple[str, ...] = ("pooled=0.5", "levels=2.5", "grid=1", "colour=1.5")
    trees: int = 300
    max_labels: int = 200
    logreg_c: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 1.0)
    memory: float | None = None
    device: Device = "auto"
    seed: tuple[int, ...] = (0,)
    keep: Literal["best", "all"] = "best"
    thumbnails: int = 5000
    mlflow: Path | None = None
    out: Path | None = None
