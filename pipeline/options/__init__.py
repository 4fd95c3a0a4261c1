"""Every option of every command, with its default and its help, in one place.

The command line and the YAML file are generated from these dataclasses; nothing else states a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["auto", "A", "B", "products", "folder"]
Fit = Literal["crop", "squash", "pad"]
Device = Literal["auto", "cpu", "cuda"]
Schedule = Literal["constant", "step", "plateau", "cosine", "onecycle"]
Loss = Literal["bce", "weighted-bce", "ce", "weighted-ce", "focal", "asymmetric"]


@dataclass(frozen=True)
class DataOptions:
    """Where the photos and their labels are.

    Attributes:
        data: A CSV file, or a folder holding one CSV (or one sub-folder of photos per class).
        images: Folder the photo names are relative to (default: `images/` beside the CSV, or the CSV's folder).
        format: How to read the labels; auto decides by the header.
        keys: Which keys to use, separated by commas (default: all that the format offers).
        image_column: Column of a products CSV that holds the photo's file name.
        image_name: Pattern that makes a photo's file name from a row of a products CSV, such as "{id}.jpg".
        unknown: More spellings of "unknown", beside the empty cell, #N/A, N/A, NA and nan.
        single: Keys to take as single-valued (default: those of which no photo has two values).
        multi: Keys to take as multi-valued.
        category_keys: JSON file {category: [keys that apply to it]} (default: learnt from the training rows).
        mapping: Mapping file of `vocabulary`: values to replace, .csv or .yaml; only lines you filled in are applied.
        allowed_values: JSON file {key: [allowed values]}; values and keys outside it are reported (default: no limits).
        outside: What becomes of values outside --allowed-values: drop (a cell left without a value is unknown), keep.
        inapplicable: Keys that do not apply to a photo's category: exclude there, or negative (any value is wrong).
    """

    data: Path | None = None
    images: Path | None = None
    format: Format = "auto"
    keys: tuple[str, ...] = ()
    image_column: str | None = None
    image_name: str | None = None
    unknown: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    multi: tuple[str, ...] = ()
    category_keys: Path | None = None
    allowed_values: Path | None = None
    outside: Literal["drop", "keep"] = "drop"
    inapplicable: Literal["exclude", "negative"] = "exclude"
    mapping: Path | None = None


@dataclass(frozen=True)
class BackboneOptions:
    """Which frozen network turns a photo into a vector, and how the photo is shown to it.

    Attributes:
        backbone: Any timm model name.
        weights: hub (timm's pretrained), package (tf_efficientnet_lite0), random:SEED, or a .pth or .safetensors file.
        size: Side of the square the network sees, in pixels (default: the model's own).
        fit: How a photo becomes that square: crop (resize, centre crop), squash (aspect ratio lost) or pad.
    """

    backbone: str = "resnext50_32x4d"
    weights: str = "hub"
    size: int | None = None
    fit: Fit = "squash"


@dataclass(frozen=True)
class KeyOptions:
    """Which cached vectors are used, where the cache holds several kinds; what is not given matches anything.

    Attributes:
        backbone: The timm model the vectors were made with.
        weights: Where its weights came from, as given to extract.
        size: Side of the square the network saw, in pixels.
        fit: How a photo became that square.
        precision: Arithmetic of the forward pass.
    """

    backbone: str | None = None
    weights: str | None = None
    size: int | None = None
    fit: Fit | None = None
    precision: Literal["fp32", "half"] | None = None


@dataclass(frozen=True)
class SplitOptions:
    """How the photos are divided into train, validation and test.

    Attributes:
        split: Shares of train, validation and test, in percent.
        split_from: Take the split from a split.csv or from a run folder instead.
        split_seed: Seed of the split.
        group_column: Column of the CSV that names the product; photos of one product stay in one part.
        group_regex: Regular expression whose first group (or whole match) in the file name is the product.
        near_duplicates: Cosine of pooled vectors from which photos of different parts are listed (0 is off).
        regroup: Keep photos with such a cosine in one part, as if they were of one product.
    """

    split: str = "64/16/20"
    split_from: Path | None = None
    split_seed: int = 0
    group_column: str | None = None
    group_regex: str | None = None
    near_duplicates: float = 0.98
    regroup: bool = False


@dataclass(frozen=True)
class ExtractOptions:
    """How photos are turned into cached vectors.

    Attributes:
        cache: Folder of the embedding cache.
        features: What is kept of the forward pass, separated by commas: pooled, levels, grid.
        views: Which views of each photo are computed: identity, hflip, vflip.
        device: Where to compute; auto takes the GPU when there is one.
        runtime: auto, torch or another installed runtime.
        precision: Arithmetic of the forward pass; half needs a GPU (part of the cache key).
        dtype: How vectors are stored.
        batch_size: Photos per forward pass (default: chosen by device and memory).
        workers: Decoding threads (default: the number of cores).
        max_pixels: Photos with more pixels than this are rejected, not decoded.
        rehash: Read and hash every photo again instead of trusting size and modification time.
        wait: Seconds to wait for another extract that is writing to the same key (default: stop at once).
    """

    cache: Path = Path("features")
    features: tuple[str, ...] = ("pooled",)
    views: tuple[str, ...] = ("identity",)
    device: Device = "auto"
    runtime: str = "auto"
    precision: Literal["fp32", "half"] = "fp32"
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int = 110_000_000
    rehash: bool = False
    wait: float = 0.0


@dataclass(frozen=True)
class FitOptions:
    """Which heads are fit on the cached vectors, and how.

    Attributes:
        cache: Folder of the embedding cache.
        use: Feature blocks to use, separated by commas (default: all that every wanted view of these photos has).
        views: Cached views to train and predict with (default: identity).
        heads: linear, mlp, mlp-per-key, logreg, lightgbm.
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
        loss: What the torch heads minimise, losses to try (ce: softmax per single-valued key;
            weighted-ce: rare classes weigh more).
        label_smoothing: Shares of the target spread over the other values to try.
        logit_adjust: Strengths of logit adjustment for rare values to try (0 is off).
        monitor: What chooses the epoch that is kept, on validation: the lowest loss or the highest micro-f1.
        patience: Epochs without a better one before a head stops.
        halving: Drop hopeless configurations early (successive halving).
        na: What an unknown label is: ignored, a value of its own, or none of the values.
        gate: Whether keys that do not apply to the predicted category are silent (category) or not (none).
        threshold: How probabilities become values: auto, best, fixed:0.5 and the like, global, per-key, per-label
            (tuned for F1), precision:0.9 and the like, count (as many values as are true).
        calibrate: Fit a temperature or Platt scaling per key on validation and fold it into the model.
        ensemble: Average this many of the best configurations into one more model (0 is off).
        refit: Fit the best once more on train and validation rows, with every choice made before.
        trees: Trees per label of the LightGBM baseline.
        max_labels: Most labels the LightGBM baseline accepts.
        logreg_c: Inverse regularisation strength of the logistic regression baseline.
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
    na: Literal["mask", "class", "negative"] = "mask"
    gate: Literal["category", "none"] = "category"
    threshold: str = "auto"
    calibrate: Literal["off", "on"] = "on"
    ensemble: int = 0
    refit: bool = False
    trees: int = 50
    max_labels: int = 200
    logreg_c: float = 1.0
    memory: float | None = None
    device: Device = "auto"
    seed: tuple[int, ...] = (0,)
    keep: Literal["best", "all"] = "best"
    thumbnails: int = 5000
    mlflow: Path | None = None
    out: Path | None = None


@dataclass(frozen=True)
class FinetuneOptions:
    """How a backbone is trained on one key before it is frozen.

    Attributes:
        key: The key to train on: softmax if it is single-valued, else one sigmoid per value.
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
        out: Folder of the training (default: finetuned/ and a name made of backbone and key); resumed if it is there.
    """

    key: str = ""
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


@dataclass(frozen=True)
class CompareOptions:
    """What the comparison shows.

    Attributes:
        by: Set the best of each value of this field against each other: head, optimizer, lr, loss and so on, or what
            differs between runs, such as na, backbone, size, use, run.
        report: Where the report page goes (default: report.html in the first run folder).
        json: Also write the whole comparison as JSON to this file.
        csv: Also write every figure, with its interval, as a row of this file.
        notes: Text file whose lines are shown below the table and on the report page.
        bootstrap: Resamples for the confidence intervals.
        seed: Seed of the resampling.
    """

    by: str | None = None
    report: Path | None = None
    json: Path | None = None
    csv: Path | None = None
    notes: Path | None = None
    bootstrap: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class ReproduceOptions:
    """What the command line says instead of the plan.

    Attributes:
        backbone: Backbone of every extraction, instead of those that the plan names.
        weights: Where its weights come from: hub, package or a file.
        cache: Folder of the embedding cache.
        out: Folder of the runs, the table and the report page; an interrupted reproduction goes on in it.
    """

    backbone: str | None = None
    weights: str | None = None
    cache: Path | None = None
    out: Path | None = None


@dataclass(frozen=True)
class PredictOptions:
    """How a fitted model is applied to new photos.

    Attributes:
        weights: Backbone weights file, where the source recorded in the model is not to be had.
        threshold: Override the model's thresholds: best, or one number for all labels.
        out: Where the predictions go: .csv in the shape of the attributes CSV, or .jsonl for multi-valued keys.
        layout: columns (one per key), dict (columns filename and predictions) or auto (dict for a model of format B).
        probabilities: Add a column per key with the probability of the predicted value.
        sha256: Refuse the model file unless its SHA-256 is this.
        device: Where to compute; auto takes the GPU when there is one.
        runtime: auto, torch or another installed runtime.
        batch_size: Photos per forward pass.
        workers: Decoding threads.
    """

    weights: Path | None = None
    threshold: str | None = None
    out: Path = Path("predictions.csv")
    layout: Literal["auto", "columns", "dict"] = "auto"
    probabilities: bool = False
    sha256: str | None = None
    device: Device = "auto"
    runtime: str = "auto"
    batch_size: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class SampleOptions:
    """What the sample catalogue is like.

    Attributes:
        format: Label format to write.
        images: Number of photos.
        seed: Same seed, same bytes.
    """

    format: Literal["A", "B"] = "A"
    images: int = 300
    seed: int = 0


@dataclass(frozen=True)
class ExportOptions:
    """What is exported from the cache.

    Attributes:
        out: File to write: .h5 or .npz.
        cache: Folder of the embedding cache.
        use: Feature blocks to write side by side, separated by commas (default: all that are cached).
        view: Which view to write.
    """

    out: Path = Path("features.h5")
    cache: Path = Path("features")
    use: tuple[str, ...] = ()
    view: str = "identity"


@dataclass(frozen=True)
class PruneOptions:
    """What is removed from the cache.

    Attributes:
        cache: Folder of the embedding cache.
        drop_key: First digits of keys that are no longer wanted (`cache info` lists them).
        yes: Really remove; without it the command only says what it would remove.
    """

    cache: Path = Path("features")
    drop_key: tuple[str, ...] = ()
    yes: bool = False


@dataclass(frozen=True)
class VocabularyOptions:
    """How the values of each key are looked through.

    Attributes:
        out: Mapping file to write, .csv or .yaml; it must not exist yet.
        values: JSON file {key: [allowed values]} to look through, instead of the catalogue's values or beside them.
        similar: Least likeness of two spellings, 0 to 100, for one to be suggested for the other.
        min_support: Values on fewer photos than this are noted as rare.
    """

    out: Path = Path("mapping.csv")
    values: Path | None = None
    similar: float = 88.0
    min_support: int = 5


@dataclass(frozen=True)
class AuditOptions:
    """How labels are judged by cached vectors.

    Attributes:
        cache: Folder of the embedding cache.
        use: Feature blocks to use, separated by commas (default: all that are cached).
        head: Head whose out-of-fold probabilities judge the labels: mlp, linear or mlp-per-key.
        folds: Parts of the catalogue, each judged by heads fitted on the others; a product stays in one part.
        min_support: Values shown by fewer products than this are not judged.
        near: Cosine of the pooled vectors from which two photos count as near-duplicates.
        neighbours: Nearest photos that an outlier is far from.
        far: Modified z-score of that distance from which a photo counts as an outlier.
        gallery: Most entries that each part of the page shows.
        group_column: Column of the CSV that names the product.
        group_regex: Regular expression whose first group (or whole match) in the file name is the product.
        device: Where to compute; auto takes the GPU when there is one.
        seed: Seeds of the heads, which are averaged; the first one also deals the folds.
        out: Folder for the tables and the page; it must be new or empty.
    """

    cache: Path = Path("features")
    use: tuple[str, ...] = ()
    head: str = "mlp"
    folds: int = 5
    min_support: int = 5
    near: float = 0.98
    neighbours: int = 10
    far: float = 3.5
    gallery: int = 100
    group_column: str | None = None
    group_regex: str | None = None
    device: Device = "auto"
    seed: tuple[int, ...] = (0, 1)
    out: Path = Path("audit")
