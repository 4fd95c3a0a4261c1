"""`reproduce`: the plan as data, going on where it was stopped, and the whole of it on a small catalogue."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.catalogue import PARTS, make_split, read_split
from pipeline.catalogue.generated.format_b import make_products
from pipeline.catalogue.generated.sample import write_sample
from pipeline.cli.app import app
from pipeline.cli.main import main
from pipeline.cli.parsing import parse
from pipeline.cli.plans.plan import Overrides, Plan, read_plan
from pipeline.cli.plans.state import PlanState
from pipeline.errors import OptionError, RunError
from pipeline.names import BEGUN
from pipeline.options.forms.yaml_file import PRESETS, read_config
from tests.byte_mutations import damaged
from tests.finetuning.stripes import write_stripes

PLAN = """
out: {out}
cache: {cache}
data: {{data: catalogue, category-keys: "{{data}}/attributes.json"}}
split: {{split: 60/20/20, group-regex: "^(.+)-"}}
extractions:
  big: {{backbone: resnet50, size: 64, views: [identity, hflip]}}
  small: {{backbone: resnet18, weights: "random:0", size: 64, fit: pad, features: [pooled, levels]}}
runs:
- {{name: adam, extraction: [big, small], heads: [linear], lr: [0.1, 0.2], refit: true, nesterov: false}}
- {{name: one, extraction: small, attributes: [category], use: [pooled]}}
"""


def plan_of(folder: Path, text: str = PLAN, **overrides: object) -> Plan:
    path = folder / "plan.yaml"
    path.write_text(text.format(out=folder / "out", cache=folder / "features"))
    return read_plan(path, Overrides(**overrides))  # type: ignore[arg-type]


def test_a_plan_is_the_commands_that_a_user_would_type(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    cache = str(tmp_path / "features")
    data = ("--data", "catalogue", "--category-attributes", "catalogue/attributes.json", "--cache", cache)
    assert plan.extractions[0].words == (
        *data, "--backbone", "resnet50", "--weights", "hub", "--size", "64", "--views", "identity,hflip"
    )  # fmt: skip
    assert [step.name for step in plan.runs] == ["resnet50-64-adam", "resnet18-64-pad-adam", "resnet18-64-pad-one"]
    assert plan.runs[1].words == (
        *data, "--backbone", "resnet18", "--weights", "random:0", "--size", "64", "--resize", "pad",
        "--group-regex", "^(.+)-", "--use", "pooled,levels", "--views", "identity",
        "--heads", "linear", "--lr", "0.1,0.2", "--refit",
    )  # fmt: skip
    assert plan.split == ("--split", "60/20/20")
    assert [[step.name for step in plan.runs_on(e)] for e in plan.extractions] == [
        ["resnet50-64-adam"],
        ["resnet18-64-pad-adam", "resnet18-64-pad-one"],
    ]
    assert plan.not_run == ()
    for step in (*plan.extractions, *plan.runs):
        parse(app, ["extract" if step in plan.extractions else "fit-heads", *step.words])


def test_another_backbone_takes_the_rows_over_and_says_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, backbone="lite", weights="package", data={"data": Path("other/rows.csv")})
    assert [step.name for step in plan.runs] == ["lite-64-adam", "lite-64-pad-adam", "lite-64-pad-one"]
    assert plan.not_run[0] == "row not run: resnet50-64-adam: the command line names another backbone; see lite-64-adam"
    assert len(plan.not_run) == 3
    assert plan.extractions[0].words[2:4] == ("--category-attributes", "other/attributes.json")


def test_rows_that_become_the_same_are_run_once(tmp_path: Path) -> None:
    same = PLAN.replace(", fit: pad, features: [pooled, levels]", ", views: [identity, hflip]")
    plan = plan_of(tmp_path, same, backbone="lite", weights="package")
    assert [step.name for step in plan.runs] == ["lite-64-adam", "lite-64-one"]
    assert len(plan.extractions) == 1


NETWORKS = """finetunings:
  one: {{backbone: resnet18, weights: "random:0", size: 64, attribute: [category], epochs: 2}}
  two: {{start: one, attribute: [], head: mlp, epochs: 1}}
extractions:
  tuned: {{finetuned: two}}
"""


def test_networks_are_trained_before_the_vectors_that_need_them(tmp_path: Path) -> None:
    text = PLAN.replace("extractions:\n", NETWORKS).replace("small, attr", "tuned, attr")
    plan = plan_of(tmp_path, text)
    one, two = plan.finetunings
    assert (one.name, two.name, two.after) == ("one", "two", "one")
    bound = [parse(app, ["finetune", *step.words, *plan.split]).keywords for step in (one, two)]
    assert [each["backbone"].backbone for each in bound] == ["resnet18", "resnet18"]
    assert [each["backbone"].size for each in bound] == [64, 64]
    first = str(plan.out / "finetuned/one/backbone.safetensors")
    assert [each["backbone"].weights for each in bound] == ["random:0", first]
    assert [each["options"].attribute for each in bound] == [("category",), ()]
    assert [each["options"].out for each in bound] == [plan.out / "finetuned" / name for name in ("one", "two")]
    last = plan.extractions[-1]
    assert plan.trained_for(last) == (one, two) and not plan.trained_for(plan.extractions[0])
    vectors = parse(app, ["extract", *last.words]).keywords
    assert vectors["backbone"].weights == str(plan.out / "finetuned/two/backbone.safetensors")
    assert (vectors["backbone"].size, vectors["options"].features) == (64, ("pooled",))
    assert plan.runs[-1].name == "resnet18-64-two-one"
    other = plan_of(tmp_path, text, backbone="lite", weights="package")
    assert parse(app, ["finetune", *other.finetunings[0].words]).keywords["backbone"].backbone == "lite"


def test_networks_of_a_plan_are_trained_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stripes(tmp_path / "stripes")
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"""
out: {tmp_path / "out"}
cache: {tmp_path / "features"}
data: {{data: {tmp_path / "stripes"}}}
finetunings:
  one: &one {{backbone: test_resnet, weights: "random:0", size: 32, attribute: [tone], epochs: 1, batch-size: 12}}
  two: {{<<: *one, start: one, attribute: [], head: mlp}}
extractions:
  frozen: {{backbone: test_resnet, weights: "random:0", size: 32}}
  tuned: {{finetuned: two}}
runs:
- {{name: linear, extraction: frozen, heads: [linear], optimizers: [adam], epochs: 1}}
- {{name: network, extraction: tuned, heads: [network]}}
""")
    assert main(["reproduce", str(plan)]) == 0
    text = capsys.readouterr().out
    shown = [line.split()[3] for line in text.splitlines() if line.startswith("$ python run.py")]
    assert shown == ["extract", "fit-heads", "finetune", "finetune", "extract", "fit-heads", "compare"]
    runs = tmp_path / "out" / "runs"
    digests = {json.loads((run / "run.json").read_text())["split_digest"] for run in runs.iterdir()}
    assert len(digests) == 1 and {run.name for run in runs.iterdir()} == {
        "test_resnet-32-linear",
        "test_resnet-32-two-network",
    }
    assert main(["reproduce", str(plan)]) == 0
    assert "$ python run.py finetune" not in capsys.readouterr().out, "what is finished is not begun again"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("finetuned: two", "finetuned: three", "no finetuning 'three'; there are one, two"),
        ("start: one", "start: two", "the finetuning 'two' starts from itself"),
        ("epochs: 1", "epoch: 1", "finetuning two: unknown option 'epoch'"),
    ],
)
def test_a_network_that_cannot_be_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = PLAN.replace("extractions:\n", NETWORKS.replace(old, new)).replace("small, attr", "tuned, attr")
    with pytest.raises(OptionError, match=message):
        plan_of(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr: [0.1", "lrr: [0.1", r"run 1: unknown option 'lrr'; did you mean 'lr'"),
        ("size: 64, views", "sise: 64, views", r"extraction big: unknown option 'sise'; did you mean 'size'"),
        ("split: {{split", "splits: {{split", "unknown option 'splits'; did you mean 'split'"),
        ("extraction: small", "extraction: tiny", r"run 2: no extraction 'tiny'; there are big, small"),
        ("name: one", "name: adam", r"run 2: another run is named resnet18-64-pad-adam"),
        ("{{name: one, ", "{{", "run 2 has no name"),
        ("{{data: catalogue, ", "{{", "the plan names no data; give it with --data"),
        ("\nruns:", "\nextractions: {{}}\nruns:", "is not valid YAML: 'extractions' is there twice"),
        ("lr: [0.1, 0.2]", "lr: [[0.1]]", r"run 1, lr holds a list; expected a value or a list of values"),
        ("extraction: small", "extraction: [[small]]", r"run 2, extraction holds a list; expected a value"),
        ("name: one", "name: {{a: 1}}", r"run 2, name holds a dict; expected a value"),
        ("{{data: catalogue, ", "{{data: [a], ", "the plan's data is a list; expected one CSV file or folder"),
        ("out: {out}", "out: [a]", "out holds a list; expected the name of a folder"),
        ("size: 64, fit: pad", "fit: crop, size: 64, resize: pad", "small: the option 'resize' is there twice"),
    ],
)
def test_what_is_no_plan_is_an_error_that_says_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PLAN
    with pytest.raises(OptionError, match=message):
        plan_of(tmp_path, PLAN.replace(old, new))


def test_a_ledger_goes_on_where_it_stopped_and_refuses_a_mixture(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    first, second, _ = plan.runs
    words = PlanState(plan).begin(first)
    assert words[-4:] == ("--split", "60/20/20", "--out", str(plan.folder(first)))
    (plan.folder(first) / "split.csv").write_text("half")
    PlanState(plan).begin(first)
    left = [path.name for path in plan.folder(first).iterdir()]
    assert left == [BEGUN], "what an interrupted run left is removed"
    (plan.folder(first) / "run.json").write_text("{}")
    ledger = PlanState(plan)
    assert (ledger.finished(first), ledger.finished(second)) == (True, False)
    assert ledger.begin(second)[-4:-2] == ("--split-from", str(plan.folder(first)))
    with pytest.raises(RunError, match=r"resnet50-64-adam was made with other options \(new or changed: 0.1,0.3\)"):
        PlanState(plan_of(tmp_path, PLAN.replace("0.2", "0.3")))
    with pytest.raises(RunError, match=r"begun with the split --split 60/20/20, now asked for --split 50/25/25"):
        PlanState(plan_of(tmp_path, PLAN.replace("60/20/20", "50/25/25")))


def test_a_folder_that_no_reproduction_began_is_never_removed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    notes = plan.folder(plan.runs[0]) / "notes.txt"
    begun = PlanState(plan)
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    for _ in range(3):
        with pytest.raises(RunError, match=r"resnet50-64-adam is in the way: .* was left as it is"):
            begun.begin(plan.runs[0])
        with pytest.raises(RunError, match=r"resnet50-64-adam is in the way"):
            PlanState(plan)
        assert notes.read_text() == "mine"
    # The plan's own record says that the run was begun, as it does when fit-heads refused the folder.
    (plan.out / "plan.json").write_text(
        json.dumps({"split": list(plan.split), "runs": {plan.runs[0].name: list(plan.runs[0].words)}})
    )
    with pytest.raises(RunError, match=r"resnet50-64-adam is in the way"):
        PlanState(plan).begin(plan.runs[0])
    assert notes.read_text() == "mine"


def test_a_link_to_a_folder_elsewhere_is_in_the_way(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / BEGUN).write_text("")
    plan.folder(plan.runs[0]).parent.mkdir(parents=True)
    plan.folder(plan.runs[0]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is in the way"):
        PlanState(plan).begin(plan.runs[0])
    assert (tmp_path / "elsewhere" / BEGUN).exists()


@pytest.mark.parametrize(
    "name", ["/../../../victim", "..", "a/b", "a\\b", "", " ", "a\tb", "a:b", "a*", "x" * 300, "a."]
)
def test_a_run_is_named_by_one_component_of_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=r"plan.yaml, run 2( has no name|: the name .* run folder is named by it)"):
        plan_of(tmp_path, PLAN.replace("name: one", f"name: {json.dumps(name)}"))


def test_a_damaged_plan_is_read_or_refused_by_name(tmp_path: Path) -> None:
    plan_of(tmp_path)
    path = tmp_path / "plan.yaml"
    sound, outcomes = path.read_bytes(), []
    for seed in range(300):
        path.write_bytes(damaged(sound, seed))
        try:
            str(read_plan(path, Overrides())).encode()
            outcomes.append(True)
        except OptionError as error:
            assert str(error).encode()
            outcomes.append(False)
    assert {*outcomes} == {True, False}


def test_a_backbone_from_a_hub_is_one_component_too(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, PLAN.replace("resnet50", '"hf-hub:timm/resnet50"'))
    assert plan.runs[0].name == "hf-hub-timm-resnet50-64-adam"
    assert plan.folder(plan.runs[0]).parent == plan.out / "runs"


@pytest.mark.parametrize("name", ["tshirt-notebook", "category-46-keys"])
def test_the_reference_plans_hold_commands_that_the_parser_knows(name: str) -> None:
    path = PRESETS / f"{name}.yaml"
    for overrides in (Overrides(), Overrides(backbone="tf_efficientnet_lite0", weights="package")):
        plan = read_plan(path, overrides)
        for step in () if overrides.backbone else plan.extractions:
            parse(app, ["extract", *step.words])
        for step in () if overrides.backbone else plan.runs:
            parse(app, ["fit-heads", *step.words])
        assert bool(plan.not_run) == (overrides.backbone is not None)
    with pytest.raises(OptionError, match="is a plan of several runs; run it with: python run.py reproduce"):
        read_config(path, {})


SMALL = """
out: {out}
cache: {cache}
data: {{data: catalogue, category-keys: "{{data}}/category_keys.json", allowed-values: "{{data}}/attribute_values.json",
  inapplicable: negative}}
split: {{split: 60/20/20}}
extractions:
  no weights: {{backbone: resnet18, weights: hub, size: 64}}
  small: {{backbone: test_resnet, weights: "random:0", size: 32}}
runs:
- {{name: category, extraction: ["no weights", small], attributes: [category], loss: weighted-ce, heads: [linear],
  optimizers: [adam], epochs: 2, threshold: best}}
- {{name: keys, extraction: small, heads: [mlp-per-key], hidden: [8], optimizers: [adam], epochs: 2, gate: none,
  threshold: "fixed:0.8"}}
"""


def test_reproduce_runs_what_can_be_run_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path / "catalogue", "B", 60, seed=2)
    plan = tmp_path / "plan.yaml"
    plan.write_text(SMALL.format(out="out", cache="features"))
    assert main(["reproduce", "plan.yaml"]) == 0
    text = capsys.readouterr().out
    reason = "row not run: resnet18-64-category: the pretrained weights of resnet18"
    assert text.count(f"\n{reason}") == 1, "under the table"
    assert "2 rows in one table" in text and f"\n  {reason}" in text
    assert reason in Path("out/report.html").read_text()
    names = [c["name"].split("/")[0] for c in json.loads(Path("out/comparison.json").read_text())["candidates"]]
    assert sorted(names) == ["test_resnet-32-category", "test_resnet-32-keys"]
    runs = [Path("out/runs") / name for name in sorted(names)]
    splits = [read_split(folder) for folder in runs]
    assert splits[0].parts == splits[1].parts
    category, attributes = (json.loads((folder / "run.json").read_text()) for folder in runs)
    assert category["schema"]["keys"] == ["category"]
    assert attributes["schema"]["gate"] is None
    made = [(folder / "run.json").stat().st_mtime_ns for folder in runs]

    shutil.rmtree(runs[1])
    assert main(["reproduce", "plan.yaml"]) == 0
    again = capsys.readouterr().out
    assert again.count("$ python run.py fit-heads") == 1
    assert "$ python run.py fit-heads" in again and "--split-from out/runs/test_resnet-32-category" in again
    assert (runs[0] / "run.json").stat().st_mtime_ns == made[0]
    assert read_split(runs[1]).parts == splits[1].parts


def test_every_category_has_its_share_in_every_part() -> None:
    items = make_products(400, np.random.default_rng(4))
    categories = sorted({item.category for item in items})
    Y = np.array([[item.category == c for c in categories] for item in items for _ in range(2)], np.uint8)
    groups = np.repeat(np.arange(400), 2)
    split = make_split(groups, Y, np.ones(Y.shape, bool), (0.6, 0.15, 0.25))
    shares = np.stack([Y[split.rows(part)].mean(0) for part in PARTS])
    assert np.abs(shares - Y.mean(0)).max() < 0.01
    assert split.counts()["test"] == pytest.approx(200, abs=4)
