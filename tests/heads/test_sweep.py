"""The sweep as its callers see it: order, early stopping, halving, views, streams, determinism, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import HeadError, OptionError
from pipeline.heads import ChunkedSource, FeatureChunk, HeadConfig, SweepOptions, Targets, fit_many
from tests.heads.problems import SIZES, key_accuracy, problem

TRAIN = problem(200, seed=0)
HELD = problem(80, seed=1)
CPU = SweepOptions(device="cpu")
FAST = {"epochs": 12, "batch_size": 32, "lr": 0.05}


def test_results_are_in_the_order_of_the_configurations() -> None:
    configs = [
        HeadConfig(head="mlp", batch_size=16, epochs=1, hidden=(4,)),
        HeadConfig(head="logreg"),
        HeadConfig(optimizer="lbfgs", epochs=1),
        HeadConfig(optimizer="sgd", epochs=1),
        HeadConfig(head="mlp-per-key", epochs=1, hidden=(4,)),
        HeadConfig(optimizer="adam", epochs=1, batch_size=16),
    ]
    assert [h.config for h in fit_many(configs, TRAIN, HELD, CPU)] == configs


@pytest.mark.parametrize("head", ["linear", "mlp", "mlp-per-key"])
@pytest.mark.parametrize("loss", ["bce", "weighted-bce", "ce", "weighted-ce", "focal", "asymmetric"])
def test_every_head_learns_with_every_loss(head: str, loss: str) -> None:
    fitted = fit_many([HeadConfig(head=head, loss=loss, hidden=(16,), **FAST)], TRAIN, HELD, CPU)[0]
    P = fitted.predict_proba(HELD[0])
    assert P.dtype == np.float32 and P.shape == (80, 9)
    assert key_accuracy(P, HELD[1], 0) > 0.8
    assert key_accuracy(P, HELD[1], 1) > 0.85


def test_softmax_probabilities_of_a_key_sum_to_one() -> None:
    fitted = fit_many([HeadConfig(loss="ce", **FAST)], TRAIN, HELD, CPU)[0]
    P = fitted.predict_proba(HELD[0])
    assert fitted.links == ("softmax", "softmax", "sigmoid")
    assert np.allclose(P[:, :3].sum(axis=1), 1, atol=1e-6)
    assert not np.allclose(P[:, 5:].sum(axis=1), 1, atol=0.1)


def test_lbfgs_reaches_the_optimum_of_the_penalised_loss() -> None:
    """No step in any of 20 directions lowers the objective, written out here in numpy."""
    config = HeadConfig(optimizer="lbfgs", weight_decay=0.1, epochs=30, patience=0)
    W, b = fit_many([config], TRAIN, TRAIN, CPU)[0].members[0]["layers"][0]
    (X, T), std = TRAIN, TRAIN[0].std(axis=0)
    mean = X.mean(axis=0)

    def objective(W: np.ndarray, b: np.ndarray) -> float:
        z = (X - mean) / std @ W + b
        losses = (np.logaddexp(0, z) - T.Y * z) * T.mask
        pairs = sum(T.mask[:, s.start].sum() for s in T.slices)
        return float(losses.sum() / pairs + 0.05 * (W**2).sum())

    standard = (W.astype(np.float64) * std[:, None], b + mean @ W)
    noise = np.random.default_rng(0)
    around = [objective(standard[0] + noise.normal(size=W.shape) * 0.01, standard[1]) for _ in range(20)]
    assert objective(*standard) < min(around)


def test_best_epoch_has_the_lowest_validation_loss() -> None:
    fitted = fit_many([HeadConfig(head="mlp", lr=0.05, epochs=30, batch_size=32, hidden=(32,))], TRAIN, HELD, CPU)[0]
    losses = [r["loss"] for r in fitted.history if r["split"] == "validation"]
    assert fitted.best_epoch == 1 + int(np.argmin(losses))
    assert fitted.validation_loss == min(losses)
    assert len(losses) == fitted.best_epoch + 5 < 30
    assert fitted.note == f"stopped early at epoch {fitted.best_epoch + 5}"


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_a_schedule_that_runs_to_its_end_keeps_its_last_epoch(schedule: str) -> None:
    config = HeadConfig(head="mlp", lr=0.1, epochs=20, batch_size=16, hidden=(32,), schedule=schedule)
    fitted = fit_many([config], TRAIN, HELD, CPU)[0]
    losses = [r["loss"] for r in fitted.history if r["split"] == "validation"]
    assert min(losses) < losses[-1], "an earlier epoch was luckier on validation"
    assert (len(losses), fitted.best_epoch) == (20, 20)
    assert fitted.validation_loss == losses[-1]


def test_patience_zero_never_stops() -> None:
    config = HeadConfig(lr=0.5, epochs=15, batch_size=32, patience=0)
    assert len(fit_many([config], TRAIN, HELD, CPU)[0].history) == 30


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_annealed_schedules_run_whole(schedule: str) -> None:
    config = HeadConfig(lr=0.5, epochs=15, batch_size=32, patience=1, schedule=schedule)
    assert len(fit_many([config], TRAIN, HELD, CPU)[0].history) == 30


def test_recorded_validation_loss_is_that_of_the_probabilities() -> None:
    fitted = fit_many([HeadConfig(**FAST)], TRAIN, HELD, CPU)[0]
    P, T = fitted.predict_proba(HELD[0]).astype(np.float64), HELD[1]
    losses = -np.where(T.Y == 1, np.log(P), np.log1p(-P)) * T.mask
    pairs = sum(T.mask[:, s.start].sum() for s in T.slices)
    assert fitted.validation_loss == pytest.approx(losses.sum() / pairs, rel=1e-4)


def test_recorded_micro_f1_is_that_of_the_decisions() -> None:
    fitted = fit_many([HeadConfig(**{**FAST, "patience": 0})], TRAIN, HELD, CPU)[0]
    P, T = fitted.predict_proba(HELD[0]), HELD[1]
    D = P > 0.5
    for columns in T.slices[:2]:
        D[:, columns] = P[:, columns] == P[:, columns].max(axis=1, keepdims=True)
    D, Y = D & T.mask, (T.Y == 1) & T.mask
    record = next(r for r in fitted.history if r["epoch"] == fitted.best_epoch and r["split"] == "validation")
    assert record["micro_f1"] == pytest.approx(2 * (D & Y).sum() / (D.sum() + Y.sum()))


def test_halving_keeps_the_winner_and_drops_hopeless_rates() -> None:
    configs = [HeadConfig(lr=lr, epochs=12, batch_size=32) for lr in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1, 3e-1)]
    full = fit_many(configs, TRAIN, HELD, CPU)
    halved = fit_many(configs, TRAIN, HELD, replace(CPU, halving=True, rung=2))
    best = [min(heads, key=lambda h: h.validation_loss).config for heads in (full, halved)]
    assert best[0] == best[1]
    assert [h.note for h in halved[:4]] == ["halved away at epoch 2"] * 4
    assert sum(len(h.history) for h in halved) < 0.5 * sum(len(h.history) for h in full)


def test_halving_after_every_epoch() -> None:
    configs = [HeadConfig(lr=lr, epochs=8, batch_size=32) for lr in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1, 3e-1)]
    left, best = [], []
    for pace in ("doubling", "every"):
        heads = fit_many(configs, TRAIN, HELD, replace(CPU, halving=True, halving_pace=pace))
        lengths = [len({r["epoch"] for r in h.history}) for h in heads]
        left.append([sum(n >= epoch for n in lengths) for epoch in range(1, 6)])
        best.append(min(heads, key=lambda h: h.validation_loss).config)
    assert left == [[8, 4, 2, 2, 1], [8, 4, 2, 1, 1]]
    assert best[0] == best[1]


@pytest.mark.parametrize("monitor", ["loss", "micro-f1"])
def test_halving_after_every_epoch_follows_where_a_configuration_is_heading(monitor: str) -> None:
    configs = [HeadConfig(lr=lr, epochs=4, batch_size=32, monitor=monitor) for lr in (3.0, 0.1, 0.01, 3e-3, 1e-3)]
    heads = fit_many(configs, TRAIN, HELD, replace(CPU, halving=True, halving_pace="every"))
    sign, name = (1, "micro_f1") if monitor == "micro-f1" else (-1, "loss")
    curves = [[sign * r[name] for r in h.history if r["split"] == "validation"] for h in heads]
    going = [0, 1, 2, 3, 4]
    for epoch, left in ((1, 3), (2, 2), (3, 1)):
        assert [i for i in range(5) if len(curves[i]) >= epoch] == going
        heading = {
            i: curves[i][0] if epoch == 1 else 4 * curves[i][epoch - 1] - 3 * curves[i][epoch - 2] for i in going
        }
        going = sorted(sorted(going, key=lambda i: -heading[i])[:left])


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="needs a processor with AMX")
def test_products_in_bf16_move_the_fit_a_little_and_nothing_after_it() -> None:
    train, held = problem(512, 64), problem(256, 64, seed=1)
    kinds = [(head, optimizer) for head in ("linear", "mlp") for optimizer in ("adam", "sgd")]
    configs = [HeadConfig(head=h, optimizer=o, hidden=(64,), epochs=3, batch_size=256, lr=0.05) for h, o in kinds]
    exact, rounded, again = (
        fit_many(configs, train, held, replace(CPU, products=products)) for products in ("fp32", "bf16", "fp32")
    )
    for a, b, c in zip(exact, rounded, again, strict=True):
        assert 0 < abs(a.validation_loss - b.validation_loss) < 0.05 * a.validation_loss
        assert a.validation_loss == c.validation_loss


def test_halving_judges_each_objective_on_its_own_unless_micro_f1_compares_them() -> None:
    """Losses, smoothing and adjustment all move the plain loss; by micro-F1 the rates alone decide."""
    kinds = [{}, {"loss": "ce"}, {"loss": "ce", "logit_adjust": 1.0}, {"loss": "ce", "label_smoothing": 0.3}]
    base = HeadConfig(epochs=2, batch_size=32)
    configs = [replace(base, lr=lr, **kind) for lr in (0.1, 1e-5) for kind in kinds]
    by_loss, by_f1 = (
        fit_many([replace(c, monitor=m) for c in configs], TRAIN, HELD, replace(CPU, halving=True))
        for m in ("loss", "micro-f1")
    )
    assert [h.note == "halved away at epoch 1" for h in by_loss] == [False] * 4 + [True] * 4
    f1 = [h.history[1]["micro_f1"] for h in by_f1]
    kept = [f1[i] for i, h in enumerate(by_f1) if h.note != "halved away at epoch 1"]
    assert sorted(kept) == sorted(f1)[4:]


def test_progress_tells_losses_of_different_kinds_apart() -> None:
    seen: list[str] = []
    configs = [HeadConfig(loss=loss, epochs=1, lr=0.01) for loss in ("bce", "ce")]
    heads = fit_many(configs, TRAIN, HELD, replace(CPU, progress=seen.append))
    bce, ce = (h.validation_loss for h in heads)
    assert seen == [f"epoch 1: 0 configurations go on, best validation loss bce {bce:.4f}, ce {ce:.4f}"]


def test_same_seed_same_numbers() -> None:
    configs = [HeadConfig(head="mlp", dropout=0.5, hidden=(8,), seed=s, **FAST) for s in (0, 0, 1)]
    first, again, other_order = (
        [h.predict_proba(HELD[0]) for h in fit_many(configs, TRAIN, HELD, replace(CPU, seed=seed))]
        for seed in (0, 0, 1)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.allclose(first[0], first[1], atol=1e-6)
    assert np.abs(first[0] - first[2]).max() > 1e-3
    assert np.abs(first[0] - other_order[0]).max() > 1e-3


def test_shifting_and_scaling_features_changes_nothing() -> None:
    X, held = TRAIN[0] * 1000 + 5, HELD[0] * 1000 + 5
    plain = fit_many([HeadConfig(**FAST)], TRAIN, HELD, CPU)[0].predict_proba(HELD[0])
    moved = fit_many([HeadConfig(**FAST)], (X, TRAIN[1]), (held, HELD[1]), CPU)[0].predict_proba(held)
    assert np.abs(plain - moved).max() < 1e-3


def test_members_are_plain_layers_for_raw_features() -> None:
    for head, shapes in (("linear", [(6, 9)]), ("mlp", [(6, 4), (4, 9)]), ("mlp-per-key", [(6, 12), (12, 9)])):
        fitted = fit_many([HeadConfig(head=head, hidden=(4,), epochs=1)], TRAIN, HELD, CPU)[0]
        (member,) = fitted.members
        assert (member["kind"], member["hidden"]) == ("dense", "relu")
        assert [W.shape for W, _ in member["layers"]] == shapes
        assert [b.shape for _, b in member["layers"]] == [(s[1],) for s in shapes]
        assert all(type(a) is np.ndarray and a.dtype == np.float32 for layer in member["layers"] for a in layer)


def test_per_key_networks_do_not_see_each_other() -> None:
    """Labels of one key changed: the other keys' probabilities stay, which a shared trunk does not give."""
    flipped = TRAIN[1].Y.copy()
    flipped[:, 5:] = 1 - flipped[:, 5:]
    other = Targets(flipped, TRAIN[1].mask, TRAIN[1].slices, TRAIN[1].single)
    for head, same in (("mlp-per-key", True), ("mlp", False)):
        config = HeadConfig(head=head, hidden=(4,), epochs=1, batch_size=32)  # one epoch: nothing to choose
        a, b = (fit_many([config], (TRAIN[0], t), HELD, CPU)[0].predict_proba(HELD[0]) for t in (TRAIN[1], other))
        assert np.allclose(a[:, :5], b[:, :5], atol=1e-6) == same


def test_many_keys_of_uneven_size() -> None:
    """Padding and bucket order leave no trace: 12 keys of 1 to 40 values, one of them learnable."""
    rng = np.random.default_rng(0)
    sizes = [40, 1, 2, 17, 3, 3, 5, 9, 1, 30, 2, 4]
    X = rng.normal(size=(300, 5)).astype(np.float32)
    Y = (rng.random((300, sum(sizes))) < 0.1).astype(np.uint8)
    Y[:, 40] = X[:, 0] > 0
    targets = Targets.plain(Y, None, sizes)
    config = HeadConfig(head="mlp-per-key", hidden=(6,), lr=0.02, epochs=10, batch_size=32)
    P = fit_many([config, replace(config, seed=1)], (X, targets), (X, targets), CPU)[1].predict_proba(X)
    assert ((P[:, 40] > 0.5) == (X[:, 0] > 0)).mean() > 0.95
    assert np.abs(np.delete(P, 40, axis=1).mean(axis=0) - np.delete(Y, 40, axis=1).mean(axis=0)).max() < 0.08


def test_streamed_shards_train_as_arrays_do() -> None:
    X, targets = TRAIN
    order = np.random.default_rng(3).permutation(len(X))
    shards = [FeatureChunk(X[p].astype(np.float16), np.arange(len(p)), p) for p in np.array_split(order, 7)]
    config = HeadConfig(head="mlp", hidden=(16,), **FAST)
    streamed = fit_many([config], (ChunkedSource(shards, buffer_rows=64), targets), HELD, CPU)[0]
    assert key_accuracy(streamed.predict_proba(HELD[0]), HELD[1], 0) > 0.8


def test_one_buffer_of_shards_gives_the_same_numbers_every_time() -> None:
    shards = [FeatureChunk(TRAIN[0][p], np.arange(len(p)), p) for p in np.array_split(np.arange(200), 4)]
    runs = [
        fit_many([HeadConfig(**FAST)], (ChunkedSource(shards, buffer_rows=80), TRAIN[1]), HELD, CPU)[0].validation_loss
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_views_train_and_average() -> None:
    """The second view mirrors what matters, so only a head that saw both does well on their average."""
    mirrored = TRAIN[0].copy()
    mirrored[:, 0] = 2 - mirrored[:, 0]
    X = np.stack([TRAIN[0], mirrored])
    held = np.stack([HELD[0], HELD[0]])
    fitted = fit_many([HeadConfig(**FAST)], (X, TRAIN[1]), (held, HELD[1]), CPU)[0]
    assert np.allclose(fitted.predict_proba(held), fitted.predict_proba(HELD[0]), atol=1e-6)
    W = fitted.members[0]["layers"][0][0]
    alone = fit_many([HeadConfig(**FAST)], TRAIN, HELD, CPU)[0].members[0]["layers"][0][0]
    assert np.abs(W[0]).mean() < 0.5 * np.abs(alone[0]).mean()


def test_logit_adjustment_finds_more_of_a_rare_value() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4)).astype(np.float32)
    rare = X[:, 0] + rng.normal(size=600) > 2.6
    targets = Targets.plain(np.stack([~rare, rare], axis=1).astype(np.uint8), None, [2], [True])
    configs = [HeadConfig(loss="ce", logit_adjust=tau, **FAST) for tau in (0.0, 1.0)]
    counts = [
        int((P[:, 1] > P[:, 0]).sum())
        for P in (h.predict_proba(X) for h in fit_many(configs, (X, targets), (X, targets), CPU))
    ]
    assert counts[1] > 2 * counts[0]


def test_weight_decay_shrinks() -> None:
    configs = [HeadConfig(optimizer="adamw", weight_decay=wd, **{**FAST, "patience": 0}) for wd in (0.0, 3.0)]
    small, large = (np.abs(h.members[0]["layers"][0][0]).mean() for h in fit_many(configs, TRAIN, HELD, CPU)[::-1])
    assert small < 0.5 * large


def test_a_diverged_configuration_is_kept_with_its_note_and_harms_nobody() -> None:
    wild = HeadConfig(head="mlp", optimizer="sgd", lr=1e12, hidden=(4,), epochs=3, batch_size=32)
    tame = replace(wild, lr=0.05)
    results = fit_many([wild, tame], TRAIN, HELD, CPU)
    assert results[0].diverged and results[0].validation_loss == float("inf")
    assert results[0].note.startswith("diverged: loss not finite at epoch 1")
    assert np.isfinite(results[0].predict_proba(HELD[0])).all()
    alone = fit_many([tame], TRAIN, HELD, CPU)[0]
    assert results[1].validation_loss == pytest.approx(alone.validation_loss, rel=1e-6)


def test_progress_names_epochs_and_configurations() -> None:
    seen: list[str] = []
    fit_many([HeadConfig(epochs=2, lr=0.01)], TRAIN, HELD, replace(CPU, progress=seen.append))
    assert [line.split(",")[0] for line in seen] == [
        "epoch 1: 1 configuration goes on",
        "epoch 2: 0 configurations go on",
    ]


def test_small_stacks_give_the_same_heads() -> None:
    configs = [HeadConfig(lr=lr, epochs=3, batch_size=32) for lr in (0.01, 0.02, 0.05)]
    wide, narrow = (
        [h.predict_proba(HELD[0]) for h in fit_many(configs, TRAIN, HELD, replace(CPU, stack_bytes=size))]
        for size in (2**30, 1)
    )
    assert np.allclose(wide, narrow, atol=1e-6)


def test_columns_of_one_class_are_listed() -> None:
    Y = TRAIN[1].Y.copy()
    Y[:, 7] = 1
    mask = TRAIN[1].mask.copy()
    mask[:, 3:5] = False
    targets = Targets.plain(Y, mask, SIZES, TRAIN[1].single)
    fitted = fit_many([HeadConfig(epochs=2)], (TRAIN[0], targets), HELD, CPU)[0]
    assert fitted.not_learnable == (3, 4, 7)
    assert (fitted.predict_proba(HELD[0])[:, 7] > 0.8).all()


def _nan(X: np.ndarray) -> np.ndarray:
    bad = X.copy()
    bad[17, 2] = np.nan
    return bad


@pytest.mark.parametrize(
    ("train", "held", "message"),
    [
        ((_nan(TRAIN[0]), TRAIN[1]), HELD, "features must be finite, row 17 holds a NaN or an infinity"),
        (TRAIN, (np.full_like(HELD[0], np.inf), HELD[1]), "features must be finite, row 0 holds"),
        ((TRAIN[0][:-1], TRAIN[1]), HELD, "199 rows of features but 200 rows of targets"),
        (TRAIN, (HELD[0][:, :5], HELD[1]), "training features have 6 numbers per photo, validation 5"),
        ((TRAIN[0][0], TRAIN[1]), HELD, r"features must be \(photos, numbers\) .* got shape \(6,\)"),
        ((TRAIN[0][:0], TRAIN[1].take(np.arange(0))), HELD, "no training photos"),
        (TRAIN, (HELD[0][:0], HELD[1].take(np.arange(0))), "no validation photos"),
        (
            (TRAIN[0], Targets.plain(TRAIN[1].Y, np.zeros((200, 9)), SIZES, TRAIN[1].single)),
            HELD,
            "every label of the training photos is unknown",
        ),
        ((TRAIN[0], Targets.plain(TRAIN[1].Y)), HELD, "the attributes must agree"),
    ],
)
def test_data_that_cannot_work(train, held, message: str) -> None:
    with pytest.raises(HeadError, match=message):
        fit_many([HeadConfig(epochs=1)], train, held, CPU)


def test_requests_that_cannot_work() -> None:
    with pytest.raises(HeadError, match="no configuration to fit"):
        fit_many([], TRAIN, HELD, CPU)
    with pytest.raises(OptionError, match="device is 'gpu'; it can be auto, cpu or cuda"):
        fit_many([HeadConfig()], TRAIN, HELD, SweepOptions(device="gpu"))
    with pytest.raises(HeadError, match="the first rung of halving is epoch 0"):
        fit_many([HeadConfig()], TRAIN, HELD, replace(CPU, halving=True, rung=0))
    with pytest.raises(HeadError, match="unknown halving pace 'evry'; did you mean 'every'"):
        fit_many([HeadConfig()], TRAIN, HELD, replace(CPU, halving=True, halving_pace="evry"))
    with pytest.raises(HeadError, match="unknown products 'bf8'; .*known: fp32, bf16"):
        fit_many([HeadConfig()], TRAIN, HELD, replace(CPU, products="bf8"))
    shards = ChunkedSource([FeatureChunk(TRAIN[0], np.arange(200), np.arange(200))])
    with pytest.raises(HeadError, match="head 'logreg' needs the features and copies of them in memory"):
        fit_many([HeadConfig(head="logreg")], (shards, TRAIN[1]), HELD, CPU)


def test_bf16_products_without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with pytest.raises(HeadError, match="need a processor with AMX, and this processor has none; use --products fp32"):
        fit_many([HeadConfig()], TRAIN, HELD, replace(CPU, products="bf16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="checks the message on a machine without a GPU")
def test_cuda_without_a_gpu() -> None:
    with pytest.raises(OptionError, match="device is cuda, but PyTorch sees no GPU here"):
        fit_many([HeadConfig()], TRAIN, HELD, SweepOptions(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu() -> None:
    configs = [HeadConfig(head=h, optimizer=o, hidden=(8,), **FAST)
               for h in ("linear", "mlp", "mlp-per-key") for o in ("adam", "sgd")]  # fmt: skip
    here, there = (
        fit_many(configs, TRAIN, HELD, SweepOptions(device=device, dtype="float64")) for device in ("cpu", "cuda")
    )
    for a, b in zip(here, there, strict=True):
        assert np.abs(a.predict_proba(HELD[0]) - b.predict_proba(HELD[0])).max() < 1e-5
