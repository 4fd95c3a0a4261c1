"""What configurations are called: by what differs among them, and no more."""

from __future__ import annotations

from dataclasses import asdict

from pipeline.heads import HeadConfig
from pipeline.names import spoken


def test_one_configuration_is_its_head() -> None:
    assert spoken([{"head": "linear", "optimizer": "sgd", "lr": "0.1"}]) == ["linear"]


def test_only_what_tells_configurations_apart_is_said() -> None:
    made = [
        HeadConfig(optimizer="adam"),
        HeadConfig(optimizer="sgd", lr=0.01),
        HeadConfig(optimizer="sgd", lr=0.1),
        HeadConfig(head="mlp", hidden=(64, 32)),
        HeadConfig(head="mlp", hidden=(512,)),
        HeadConfig(head="logreg", C=0.003),
        HeadConfig(head="logreg", C=0.1),
        HeadConfig(head="lightgbm"),
    ]
    assert spoken([asdict(config) for config in made]) == [
        "linear · adam",
        "linear · sgd · lr 0.01",
        "linear · sgd · lr 0.1",
        "mlp · hidden 64, 32",
        "mlp · hidden 512",
        "logreg · C 0.003",
        "logreg · C 0.1",
        "lightgbm",
    ]


def test_features_are_said_where_they_differ() -> None:
    rows = [{"head": "linear", "lr": lr, "use": use} for lr in ("0.1", "0.01") for use in ("pooled", "levels")]
    assert spoken(rows)[-1] == "linear · lr 0.01 · levels"


def test_settings_that_one_alone_has_do_not_hide_the_others() -> None:
    assert spoken([{"head": "mlp", "seed": "1"}, {"head": "mlp"}, {}]) == ["mlp · seed 1", "mlp", "?"]


def test_different_configurations_have_different_names() -> None:
    made = [HeadConfig(optimizer=o, lr=lr, seed=s) for o in ("adam", "sgd") for lr in (0.1, 0.2) for s in (0, 1)]
    names = spoken([asdict(config) for config in made])
    assert len(set(names)) == len(made)
    assert names[0] == "linear · adam · lr 0.1 · seed 0"
