"""Configurations: names, ids, defaults, and what is refused before anything is computed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import HeadError
from pipeline.heads import HeadConfig, grid
from pipeline.options import FitOptions


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"head": "liner"}, r"unknown head 'liner'; did you mean 'linear'\? known: linear, mlp, mlp-per-key"),
        ({"optimizer": "adan"}, r"unknown optimizer 'adan'; did you mean 'adam'\?"),
        ({"loss": "focall"}, r"unknown loss 'focall'; did you mean 'focal'\?"),
        ({"schedule": "cosin"}, r"unknown schedule 'cosin'; did you mean 'cosine'\?"),
        ({"head": "mlp", "optimizer": "lbfgs"}, "optimizer 'lbfgs' cannot train head 'mlp'; it can use adam, sgd, ada"),
        ({"head": "logreg", "optimizer": "adam"}, "head 'logreg' has no optimizer to choose, got 'adam'"),
        ({"lr": -1.0}, r"lr of head 'linear' is -1.0, expected a positive number"),
        ({"lr": float("nan")}, "lr of head 'linear' is nan, expected a positive number"),
        ({"weight_decay": -0.1}, "weight_decay of head 'linear' is -0.1, expected 0 or more"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum of head 'linear' is 1.0, expected at least 0 and below 1"),
        ({"optimizer": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov of head 'linear' is True, expected off"),
        ({"betas": (0.9,)}, r"betas of head 'linear' is \(0.9,\), expected two numbers from 0 to below 1"),
        ({"epochs": 0}, "epochs of head 'linear' is 0, expected 1 or more"),
        ({"batch_size": 0}, "batch_size of head 'linear' is 0, expected 1 or more"),
        ({"head": "mlp", "hidden": ()}, r"hidden of head 'mlp' is \(\), expected one or more positive sizes"),
        (
            {"head": "mlp-per-key", "hidden": (4, 4)},
            r"hidden of head 'mlp-per-key' is \(4, 4\), expected .*exactly one",
        ),
        ({"head": "mlp", "dropout": 1.0}, "dropout of head 'mlp' is 1.0, expected at least 0 and below 1"),
        ({"label_smoothing": 1.5}, "label_smoothing of head 'linear' is 1.5"),
        ({"logit_adjust": -1.0}, "logit_adjust of head 'linear' is -1.0, expected 0 or more"),
        ({"head": "logreg", "C": 0.0}, "C of head 'logreg' is 0.0, expected a positive number"),
        ({"head": "lightgbm", "feature_fraction": 0.0}, "feature_fraction of head 'lightgbm' is 0.0"),
    ],
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        HeadConfig(**given)


def test_default_rate_depends_on_the_optimizer() -> None:
    rates = {o: HeadConfig(optimizer=o).lr for o in ("adam", "adamw", "sgd", "lbfgs")}
    assert rates == {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.1, "lbfgs": 1.0}


def test_id_names_head_and_optimizer() -> None:
    assert HeadConfig(optimizer="sgd").config_id.startswith("linear-sgd-")
    assert HeadConfig(head="logreg").config_id.startswith("logreg-")
    assert len(HeadConfig(optimizer="sgd").config_id.removeprefix("linear-sgd-")) == 8


def test_id_ignores_what_the_head_does_not_use() -> None:
    assert HeadConfig(hidden=(3,), dropout=0.5).config_id == HeadConfig().config_id
    assert HeadConfig(optimizer="adam", momentum=0.5).config_id == HeadConfig().config_id
    assert HeadConfig(head="logreg", lr=3.0, epochs=7).config_id == HeadConfig(head="logreg").config_id


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.5}, {"seed": 1}, {"loss": "ce"}, {"betas": (0.5, 0.9)}, {"epochs": 3}, {"schedule": "step"},
     {"batch_size": 16}, {"weight_decay": 0.1}, {"patience": 1}, {"label_smoothing": 0.1}, {"logit_adjust": 1.0}],
)  # fmt: skip
def test_id_depends_on_what_the_head_uses(change: dict[str, Any]) -> None:
    assert HeadConfig(**change).config_id != HeadConfig().config_id


def test_grid_crosses_the_options_without_repeats() -> None:
    options = FitOptions(heads=("linear", "mlp", "logreg"), optimizers=("adam", "sgd"), lr=(0.1, 0.2), hidden=(8, 16))
    made = grid(options)
    assert [c.head for c in made].count("linear") == 4
    assert [c.head for c in made].count("mlp") == 8
    assert [c.C for c in made if c.head == "logreg"] == [0.003, 0.01, 0.03, 0.1, 1.0]
    assert len({c.config_id for c in made}) == 17
    with pytest.raises(HeadError, match="nothing to try for logreg-c"):
        grid(FitOptions(heads=("multinomial",), logreg_c=()))


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("loss", ("bce", "ce", "focal")),
        ("label_smoothing", (0.0, 0.1)),
        ("logit_adjust", (0.0, 0.5, 1.0)),
        ("schedule", ("constant", "step", "cosine")),
        ("batch_size", (16, 128)),
    ],
)
def test_grid_tries_every_value_of_an_axis_under_an_id_of_its_own(axis: str, values: tuple[Any, ...]) -> None:
    options = FitOptions(heads=("linear", "logreg"), optimizers=("adam", "sgd"), logreg_c=(0.1,))
    made = grid(replace(options, **{axis: values}))
    assert sorted(getattr(c, axis) for c in made if c.optimizer == "sgd") == sorted(values)
    assert len({c.config_id for c in made}) == len(made) == 2 * len(values) + 1
    with pytest.raises(HeadError, match=f"nothing to try for {axis}"):
        grid(FitOptions(**{axis: ()}))


def test_grid_takes_every_training_option() -> None:
    options = FitOptions(
        heads=("mlp",), optimizers=("sgd",), lr=(0.3,), weight_decay=(0.1,), hidden=(7,), dropout=(0.5,), epochs=3,
        batch_size=(16,), schedule=("cosine",), loss=("ce",), label_smoothing=(0.1,), logit_adjust=(0.5,), patience=2,
        seed=(9,),
        input_dropout=0.25, momentum=0.8, nesterov=True,
    )  # fmt: skip
    assert grid(options) == (
        HeadConfig(
            "mlp", "sgd", 0.3, 0.1, schedule="cosine", epochs=3, batch_size=16, loss="ce", hidden=(7,), dropout=0.5,
            label_smoothing=0.1, logit_adjust=0.5, patience=2, seed=9, input_dropout=0.25, momentum=0.8, nesterov=True,
        ),
    )  # fmt: skip
    assert grid(FitOptions(heads=("linear",), optimizers=("adam",), betas=(0.5, 0.9)))[0].betas == (0.5, 0.9)


def test_grid_refuses_a_pair_that_cannot_work() -> None:
    with pytest.raises(HeadError, match="optimizer 'lbfgs' cannot train head 'mlp'"):
        grid(FitOptions(heads=("linear", "mlp"), optimizers=("lbfgs",)))


def test_configurations_need_no_heavy_import() -> None:
    code = (
        "import sys, pipeline.heads as h; h.HeadConfig(); h.FittedHead; h.Targets;"
        "print([m for m in ('torch', 'sklearn', 'lightgbm') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
