"""A training step of `finetune` beside the plain loop and beside the step alone: ratios of one run.

    python benchmarks/finetune.py --images FOLDER --photos 512 --size 96 --rounds 3
    python benchmarks/finetune.py --images FOLDER --backbone resnext50_32x4d --weights random:0 --size 160

(a) photos per second of an epoch of `finetune` over photos that it has decoded (decoding them, once, is a line of its
own); (b) the loop everyone writes: timm model in eager fp32, torch DataLoader with as many workers as cores, crops and
flips by torchvision on PIL images, cross-entropy, AdamW; (c) forward, backward and step of (a)'s network on pixels that
are ready. All are measured in every round, in turn, so that a busy machine slows all of them; the best round counts.
Seven attributes of 34 values each; labels are random, which does not change the speed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.catalogue import LabelSchema
from pipeline.features.backbone.network import Backbone, load_backbone
from pipeline.finetuning.examples import Examples
from pipeline.finetuning.loop import Training
from pipeline.finetuning.network.objective import objective
from pipeline.finetuning.outcome import Callbacks
from pipeline.finetuning.photos.augment import Augmentation
from pipeline.finetuning.photos.pixels import Feeding, decode_all
from pipeline.machine import choose_device, cores
from pipeline.options import BackboneOptions, FinetuneOptions

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
ATTRIBUTES, VALUES = 7, 34
SCHEMA = LabelSchema(
    tuple(f"attribute {i}" for i in range(ATTRIBUTES)),
    tuple(tuple(f"value {i}" for i in range(VALUES)) for _ in range(ATTRIBUTES)),
    (True,) * ATTRIBUTES,
)


class Files(torch.utils.data.Dataset):
    """What the plain loop's DataLoader reads."""

    def __init__(self, paths, labels, transform):
        self.paths, self.labels, self.transform = paths, labels, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--amp", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def options_of(args: argparse.Namespace) -> FinetuneOptions:
    return FinetuneOptions(epochs=1, batch_size=args.batch_size, amp=args.amp, device=args.device, jitter=0.0)


def backbone_of(args: argparse.Namespace) -> Backbone:
    return load_backbone(BackboneOptions(backbone=args.backbone, weights=args.weights, size=args.size))


def random_targets(count: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(0).integers(0, VALUES, (count, ATTRIBUTES))
    Y = np.eye(VALUES, dtype=np.uint8)[drawn].reshape(count, -1)
    return Y, np.ones(Y.shape, np.bool_)


def new_training(args: argparse.Namespace, Y: np.ndarray, mask: np.ndarray) -> Training:
    options = options_of(args)
    goal = objective(Y, mask, SCHEMA, options)
    return Training(backbone_of(args), goal, SCHEMA, Augmentation.of(options, 0.0), options)


def our_epoch(args: argparse.Namespace, photos, Y: np.ndarray, mask: np.ndarray) -> float:
    """Photos per second of an epoch, its first step, which warms up, excluded."""
    every = np.arange(len(photos))
    train, few = Examples(photos, every, Y, mask), Examples(photos, every[:8], Y[:8], mask[:8])
    at: list[tuple[float, int]] = []
    callbacks = Callbacks(trained=lambda done, _total: at.append((time.perf_counter(), done)))
    with tempfile.TemporaryDirectory() as folder:
        new_training(args, Y, mask).run(train, few, Path(folder), callbacks)
    return (at[-1][1] - at[0][1]) / (at[-1][0] - at[0][0])


def step_alone(args: argparse.Namespace, photos, Y: np.ndarray, mask: np.ndarray) -> float:
    training = new_training(args, Y, mask)
    rows = np.arange(min(args.batch_size, len(photos)))
    device = torch.device(choose_device(args.device))
    pixels = torch.from_numpy(photos.take(rows)).to(device).float()
    targets = torch.from_numpy(Y[rows]).to(device).float(), torch.from_numpy(mask[rows]).to(device)
    training._part.train_mode()
    training._step(pixels, *targets)
    steps = max(3, len(photos) // len(rows) - 1)
    start = time.perf_counter()
    for _ in range(steps):
        training._step(pixels, *targets)
    return steps * len(rows) / (time.perf_counter() - start)


def plain_epoch(args: argparse.Namespace, paths: list[Path], Y: np.ndarray) -> float:
    from torchvision import transforms

    net = timm.create_model(args.backbone, num_classes=Y.shape[1]).to(args.device).train()
    config = timm.data.resolve_model_data_config(net)
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(args.size, scale=(0.7, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(config["mean"], config["std"]),
        ]
    )
    files = Files(paths, Y.reshape(len(Y), ATTRIBUTES, VALUES).argmax(axis=2), transform)
    loader = torch.utils.data.DataLoader(files, args.batch_size, shuffle=True, num_workers=cores())
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    start, done, first = 0.0, 0, 0
    for images, values in loader:
        logits = net(images.to(args.device)).reshape(len(images), ATTRIBUTES, VALUES)
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), values.to(args.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += len(images)
        if not start:
            start, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - start)


def main() -> None:
    args = parse()
    args.device = choose_device(args.device)
    paths = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in SUFFIXES)[: args.photos]
    Y, mask = random_targets(len(paths))
    start = time.perf_counter()
    good, photos = decode_all(paths, Feeding(backbone_of(args).transform, None, 8 << 30))
    decoding = len(paths) / (time.perf_counter() - start)
    Y, mask, paths = Y[good], mask[good], [paths[i] for i in good.tolist()]
    rounds = []
    for _ in range(args.rounds):
        rounds.append(
            {
                "a": our_epoch(args, photos, Y, mask),
                "b": plain_epoch(args, paths, Y),
                "c": step_alone(args, photos, Y, mask),
            }
        )
        print({name: round(rate, 1) for name, rate in rounds[-1].items()}, flush=True)
    best = {name: max(each[name] for each in rounds) for name in "abc"}
    figures = {
        "photos": len(paths),
        "decoding": decoding,
        "rounds": rounds,
        "best": best,
        "machine": platform.machine(),
    }
    print(f"{args.backbone}, {args.size} px, {len(paths)} photos, {args.device}, amp {args.amp}, {cores()} cores")
    print(f"  decoding, once      {decoding:8.1f} photos/s")
    print(f"  (a) finetune        {best['a']:8.1f} photos/s")
    print(f"  (b) plain loop      {best['b']:8.1f}   a/b {best['a'] / best['b']:.2f}")
    print(f"  (c) step alone      {best['c']:8.1f}   a/c {best['a'] / best['c']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
