"""Speed and memory of the stacked sweep beside the usual ways, as ratios of one run.

    python benchmarks/sweep.py sweep       64 configurations: ours, with halving, one at a time, products alone
    python benchmarks/sweep.py logreg      a linear head beside MultiOutputClassifier(LogisticRegression)
    python benchmarks/sweep.py keys        46 attributes with 2,520 values: an epoch beside its products; peak memory

Features are synthetic: clusters behind a rectifier, with labels that depend on them, so that losses fall as they do on
photos. One-at-a-time loops are timed on one configuration of each head and optimizer for a few epochs and multiplied.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.heads import FittedHead, HeadConfig, SweepOptions, Targets, fit_many
from pipeline.heads.stacked.networks import make_network
from pipeline.heads.stacked.stack import parameter_count

CATALOGUE_SIZES = (5, 7, 45, 140, 46, 4, 8)
MANY_SIZES = (478, 433, 287, 210, 150, 120, 100, 90, 80, 70, 60, 50, 40, 35, 30, 28, 26, 24, 22, 20,
              18, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1)  # fmt: skip
RATES = {"adam": np.geomspace(1e-5, 3e-2, 8), "sgd": np.geomspace(1e-3, 1.0, 8)}


clock = time.perf_counter


def synthetic(n: int, d: int, sizes: tuple[int, ...], seed: int) -> tuple[np.ndarray, Targets]:
    """Features (n, d) of n photos, and one value per attribute and photo, skewed as in catalogues."""
    world, rng = np.random.default_rng(7), np.random.default_rng(seed)
    hidden = 48
    mixing = world.normal(size=(hidden, d)).astype(np.float32)
    codes = rng.normal(size=(n, hidden)).astype(np.float32)
    X = np.empty((n, d), np.float32)
    Y = np.zeros((n, sum(sizes)), np.uint8)
    for start in range(0, n, 4096):
        rows = slice(start, start + 4096)
        X[rows] = np.maximum(codes[rows] @ mixing + 4 * rng.standard_normal((len(codes[rows]), d), np.float32), 0)
    first = 0
    for size in sizes:
        scores = codes @ world.normal(size=(hidden, size)) / 3 - 1.5 * np.log(np.arange(1, size + 1))
        Y[np.arange(n), first + scores.argmax(axis=1)] = 1
        first += size
    known = np.broadcast_to(np.ones(1, np.bool_), Y.shape)
    ends = np.cumsum([0, *sizes])
    slices = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))
    return X, Targets(Y, known, slices, (True,) * len(sizes))


def grid_of_64(epochs: int, batch: int) -> list[HeadConfig]:
    return [
        HeadConfig(head=head, optimizer=optimizer, lr=float(lr), weight_decay=decay, epochs=epochs, batch_size=batch,
                   hidden=(256,), patience=0)
        for head in ("linear", "mlp")
        for optimizer in ("adam", "sgd")
        for lr in RATES[optimizer]
        for decay in (0.0, 1e-4)
    ]  # fmt: skip


class Alone:
    """One configuration trained by itself in the usual way."""

    def __init__(self, config: HeadConfig, train: tuple, held: tuple, device: torch.device) -> None:
        self.config, self.device = config, device
        (X, self.T), (Xv, self.Tv) = train, held
        mean, std = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-6)
        self.x, self.xv = (torch.from_numpy((A - mean) / std) for A in (X, Xv))
        self.y, self.yv = (torch.from_numpy(t.Y).float() for t in (self.T, self.Tv))
        self.m, self.mv = (torch.from_numpy(np.array(t.mask)).float() for t in (self.T, self.Tv))
        d, labels = self.x.shape[1], self.y.shape[1]
        layers = [nn.Linear(d, labels)]
        if config.head == "mlp":
            layers = [nn.Linear(d, config.hidden[0]), nn.ReLU(), nn.Linear(config.hidden[0], labels)]
        self.net = nn.Sequential(*layers).to(device)
        if config.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.net.parameters(), config.lr, weight_decay=config.weight_decay)
        else:
            self.optimizer = torch.optim.SGD(self.net.parameters(), config.lr, 0.9, weight_decay=config.weight_decay)

    def loader(self) -> Iterator[tuple[torch.Tensor, ...]]:
        data = torch.utils.data.TensorDataset(self.x, self.y, self.m)
        for batch in torch.utils.data.DataLoader(data, self.config.batch_size, shuffle=True):
            yield tuple(t.to(self.device) for t in batch)

    def slicing(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for rows in torch.randperm(len(self.x)).split(self.config.batch_size):
            yield self.x[rows].to(self.device), self.y[rows].to(self.device), self.m[rows].to(self.device)

    def epoch(self, batches: Callable[[], Iterator[tuple[torch.Tensor, ...]]]) -> float:
        """Seconds of one epoch of training and validation."""
        started = clock()
        for x, y, m in batches():
            self.optimizer.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(self.net(x), y, weight=m, reduction="sum") / m.sum()
            loss.backward()
            self.optimizer.step()
        with torch.no_grad():
            losses = [
                float(functional.binary_cross_entropy_with_logits(self.net(x.to(self.device)), y.to(self.device)))
                for x, y in zip(self.xv.split(1024), self.yv.split(1024), strict=True)
            ]
        if not math.isfinite(sum(losses)):
            raise SystemExit("the configuration that is timed alone diverged; choose other rates")
        return clock() - started


def products(config: HeadConfig, d: int, labels: int, rows: int, train: bool) -> list[Callable[[], object]]:
    """The matrix products of one batch of one configuration, and nothing else, on ready memory."""
    x = torch.randn(rows, d)
    sizes = [d, *config.hidden, labels]
    done: list[Callable[[], object]] = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        h = x if i == 0 else torch.randn(rows, a)
        W, z, g = torch.randn(b, a), torch.randn(rows, b), torch.empty(b, a)
        done.append(lambda h=h, W=W, z=z: torch.mm(h, W.t(), out=z))
        if train:
            done.append(lambda h=h, g=g, z=z: torch.mm(z.t(), h, out=g))
            if i:
                back = torch.empty(rows, a)
                done.append(lambda W=W, z=z, back=back: torch.mm(z, W, out=back))
    return done


def seconds_of(calls: list[Callable[[], object]], repeats: int = 15) -> float:
    """Median seconds of all calls in a row."""
    times = []
    for _ in range(repeats + 2):
        started = clock()
        for call in calls:
            call()
        times.append(clock() - started)
    return float(np.median(times[2:]))


def products_epoch(config: HeadConfig, d: int, labels: int, rows: int, held: int) -> float:
    """Seconds that the products of one configuration take over one epoch, validation included."""
    full, rest = divmod(rows, config.batch_size)
    total = full * seconds_of(products(config, d, labels, config.batch_size, True))
    if rest:
        total += seconds_of(products(config, d, labels, rest, True))
    return total + held / 1024 * seconds_of(products(config, d, labels, 1024, False))


def accuracy(head: FittedHead, X: np.ndarray, T: Targets) -> float:
    """Mean over attributes of the share of photos whose best value is right, in points."""
    P = head.predict_proba(X)
    return 100 * float(np.mean([(P[:, s].argmax(1) == T.Y[:, s].argmax(1)).mean() for s in T.slices]))


def timed(call: Callable[[], list[FittedHead]]) -> tuple[float, list[FittedHead]]:
    started = clock()
    heads = call()
    return clock() - started, heads


def bench_sweep(args: argparse.Namespace) -> dict[str, object]:
    train = synthetic(args.rows, args.dim, CATALOGUE_SIZES, 0)
    held = synthetic(args.rows // 4, args.dim, CATALOGUE_SIZES, 1)
    configs = grid_of_64(args.epochs, args.batch)
    options = SweepOptions(device=args.device, products=args.products)
    device = torch.device(args.device)
    labels = train[1].size
    wanted = (("linear", "adam", -3), ("linear", "sgd", -1), ("mlp", "adam", -3), ("mlp", "sgd", -1))
    kinds = [next(c for c in configs if (c.head, c.optimizer, round(math.log10(c.lr))) == k) for k in wanted]
    alone = [Alone(c, train, held, device) for c in kinds]
    times: dict[str, list[float]] = {"ours": [], "start": [], "DataLoader": [], "slicing": [], "products": []}
    for _ in range(args.rounds):  # interleaved, so that a busy machine disturbs all sides alike
        one, three = (
            timed(lambda e=e: fit_many([replace(c, epochs=e) for c in configs], train, held, options))[0]
            for e in (1, 3)
        )
        times["ours"].append((three - one) / 2)
        times["start"].append(one - (three - one) / 2)
        times["DataLoader"].append(16 * sum(a.epoch(a.loader) for a in alone))
        times["slicing"].append(16 * sum(a.epoch(a.slicing) for a in alone))
        if args.device == "cpu":
            each = [products_epoch(c, args.dim, labels, args.rows, args.rows // 4) for c in kinds]
            times["products"].append(16 * sum(each))
    middle = {name: float(np.median(t)) for name, t in times.items() if t}
    ours, loader = middle["ours"], middle["DataLoader"]
    result: dict[str, object] = {
        "seconds per epoch of 64 configurations (start: once)": middle,
        "times faster than DataLoader + torch.optim": loader / ours,
        "times faster than tensor slicing": middle["slicing"] / ours,
    }
    if "products" in middle:
        result["products alone / ours"] = middle["products"] / ours
    if not args.skip_halving:
        full_s, full = timed(lambda: fit_many(configs, train, held, options))
        half_s, half = timed(
            lambda: fit_many(
                configs, train, held, replace(options, halving=True, rung=args.rung, halving_pace=args.pace)
            )
        )
        best = [min(heads, key=lambda h: h.validation_loss) for heads in (full, half)]
        points = [accuracy(b, *held) for b in best]
        result |= {
            f"full sweep, {args.epochs} epochs, s": full_s,
            "full sweep: times faster than DataLoader + torch.optim (extrapolated)": loader * args.epochs / full_s,
            "full sweep: products alone / ours": middle.get("products", math.nan) * args.epochs / full_s,
            "with halving, s": half_s,
            "halving: times faster than DataLoader + torch.optim (extrapolated)": loader * args.epochs / half_s,
            "winner full / halving": [b.config.config_id for b in best],
            "winner's validation accuracy full / halving, points": points,
        }
    return result


def bench_logreg(args: argparse.Namespace) -> dict[str, object]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multioutput import MultiOutputClassifier

    sizes = CATALOGUE_SIZES[: args.keys]
    (X, T), (Xv, Tv) = synthetic(args.rows, args.dim, sizes, 0), synthetic(args.rows // 4, args.dim, sizes, 1)
    usable = np.setdiff1d(np.arange(T.size), T.not_learnable)
    T, Tv = (Targets.plain(t.Y[:, usable]) for t in (T, Tv))
    mean, std = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-6)
    started = clock()
    peer = MultiOutputClassifier(LogisticRegression(C=args.C, max_iter=300), n_jobs=-1).fit((X - mean) / std, T.Y)
    peer_s = clock() - started
    P = np.stack([p[:, 1] for p in peer.predict_proba((Xv - mean) / std)], axis=1)
    clipped = np.clip(P, 1e-7, 1 - 1e-7)
    peer_loss = float(-(Tv.Y * np.log(clipped) + (1 - Tv.Y) * np.log1p(-clipped)).sum(axis=1).mean())
    decay = 1 / (args.C * len(X))  # the same penalty, for a loss that is a mean over rows
    config = HeadConfig(optimizer="lbfgs", weight_decay=decay, epochs=args.epochs)
    ours_s, (head,) = timed(lambda: fit_many([config], (X, T), (Xv, Tv), SweepOptions(device=args.device)))
    losses = [r["loss"] for r in head.history if r["split"] == "validation"]
    equal = next((e for e, loss in enumerate(losses, 1) if loss <= peer_loss), None)
    return {
        "labels": T.size,
        "validation log-loss, logistic regression / ours": [peer_loss, head.validation_loss],
        "seconds, logistic regression / ours": [peer_s, ours_s],
        "ours: epochs run, first epoch that is equal or better": [len(losses), equal],
        "times faster, whole fit": peer_s / ours_s if equal else None,
        "times faster, to equal log-loss": peer_s / (ours_s * equal / len(losses)) if equal else None,
    }


def bench_keys(args: argparse.Namespace) -> dict[str, object]:
    small = synthetic(512, args.dim, MANY_SIZES, 2)
    config = HeadConfig(head="mlp-per-key", hidden=(256,), epochs=args.epochs, batch_size=128, patience=0)
    fit_many([replace(config, epochs=1, hidden=(4,))], small, small, SweepOptions(device=args.device))  # warm libraries
    before = _memory("VmRSS")
    train, held = synthetic(args.rows, args.dim, MANY_SIZES, 0), synthetic(2048, args.dim, MANY_SIZES, 1)
    _reset_peak()
    seconds, (head,) = timed(lambda: fit_many([config], train, held, SweepOptions(device=args.device)))
    peak = _memory("VmHWM") - before
    count = parameter_count(make_network(config, args.dim, train[1]))
    features = train[0].nbytes + held[0].nbytes
    state = 3 * 4 * count
    targets = train[1].Y.nbytes + held[1].Y.nbytes
    batch_s = _keys_products(args.dim, config)
    ideal = (args.rows / config.batch_size) * batch_s
    epoch = seconds / config.epochs
    return {
        "keys, values, parameters": [len(MANY_SIZES), sum(MANY_SIZES), count],
        "seconds per epoch, ours / products alone": [epoch, ideal],
        "epoch / products alone": epoch / ideal,
        "MB: features, parameters + Adam state, targets, peak": [
            round(v / 2**20) for v in (features, state, targets, peak)
        ],
        "peak / (features + parameters + state)": peak / (features + state),
        "peak / (features + targets + parameters + state)": peak / (features + state + targets),
        "final validation loss": head.validation_loss,
    }


def _keys_products(d: int, config: HeadConfig) -> float:
    """Seconds of the products of one training batch: one wide first layer, a product of its size per attribute."""
    rows, H = config.batch_size, config.hidden[0]
    wide = products(replace(config, head="mlp", hidden=(len(MANY_SIZES) * H,)), d, 1, rows, True)[:2]
    calls = list(wide)
    for size in MANY_SIZES:
        h, W, z, g, back = (torch.randn(*s) for s in ((rows, H), (size, H), (rows, size), (size, H), (rows, H)))
        calls += [
            lambda h=h, W=W, z=z: torch.mm(h, W.t(), out=z),
            lambda h=h, g=g, z=z: torch.mm(z.t(), h, out=g),
            lambda W=W, z=z, back=back: torch.mm(z, W, out=back),
        ]
    return seconds_of(calls, 9)


def _memory(field: str) -> int:
    """Bytes of a line of /proc/self/status, or the peak where there is none."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(field))


def _reset_peak() -> None:
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("sweep", "logreg", "keys"))
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--dim", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=3, help="attributes of the logistic regression comparison")
    parser.add_argument("--C", type=float, default=0.01, help="C of the logistic regression")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", default="wall", choices=("wall", "cpu"), help="cpu (with --threads 1): on a busy machine"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rung", type=int, default=1, help="epoch of the first halving")
    parser.add_argument("--pace", default="doubling", choices=("doubling", "every"), help="of halving")
    parser.add_argument("--products", default="fp32", choices=("fp32", "bf16"), help="of ours; the others are fp32")
    parser.add_argument("--skip-halving", action="store_true")
    args = parser.parse_args()
    defaults = {"sweep": (10_000, 1280, 16), "logreg": (10_000, 1280, 30), "keys": (50_000, 2048, 2)}[args.part]
    for name, value in zip(("rows", "dim", "epochs"), defaults, strict=True):
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    torch.set_num_threads(args.threads)
    if args.clock == "cpu":
        globals()["clock"] = time.process_time
    result = {"sweep": bench_sweep, "logreg": bench_logreg, "keys": bench_keys}[args.part](args)
    print(json.dumps({"arguments": vars(args), **result}, indent=1))


if __name__ == "__main__":
    main()
