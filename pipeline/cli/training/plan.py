"""What a training runs, as data: the words of each command, made of those that were typed and of the recipe's files.

A recipe is a file with a section per command. `extract` and `fit-heads` always run; a section `finetune` puts that
command first, and the heads then see the vectors of the frozen start and of the fine-tuned network side by side, or as
the recipe says; so it is with frozen networks beside the recipe's own. Every command reads its own section: it is given
the same --preset and --config, and those typed words that it knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from pipeline.cli.parameters import FileOptions, TrainOptions, WordsByOption
from pipeline.cli.parsing import options_of
from pipeline.cli.plans.plan import Plan, Step, Words
from pipeline.cli.steps import Steps
from pipeline.cli.training.recipe import Recipe
from pipeline.errors import OptionError
from pipeline.names import tidied
from pipeline.options import (
    BackboneOptions,
    DataOptions,
    ExtractOptions,
    FinetuneOptions,
    FitOptions,
    SplitOptions,
    names_file,
)
from pipeline.options.forms.words import changed, words_of
from pipeline.options.forms.yaml_file import OWN_MEANING

T = TypeVar("T")

HEADS, BASELINES = "heads", "baselines"
"""Names of the run folders."""

_FIRST = "first"
_EXTRACTIONS = {
    _FIRST: "extract, fine-tuned",
    "refit": "extract, fine-tuned with validation photos",
    "final": "extract, fine-tuned on all photos",
}
"""What the extraction with a fine-tuned network is called, by the fit that takes its vectors."""

_PLAIN = frozenset({"images", "photos", "data", "catalogue", "train"})

_SPLIT = frozenset({"split", "split-from", "split-seed", "split-by", "near-duplicates", "regroup"})
"""Split options that the first fit alone takes: those after it take its split."""

_WITHOUT = {"thumbnails": 0, "near_duplicates": 0}
"""What a run beside another need not do again."""

_BACKBONE = tuple(field.name for field in fields(BackboneOptions))

_NOT_TAKEN = {
    "extract": frozenset({"batch-size"}),
    "fit-heads": frozenset({"out", "final"}) | _SPLIT,
    "finetune": frozenset({*OWN_MEANING["finetune"], "out"}) - {"near-duplicates", "regroup"},
}
"""Options that a command has under the same name as another, which a training means."""


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        files: The config file asked for, and the preset of the recipe.
        typed: The words of the command line, by option.
    """

    options: TrainOptions
    files: FileOptions
    typed: WordsByOption

    def words(self, steps: Steps, command: str, without: Collection[str] = ()) -> Words:
        """What one of the commands is given: the files, and the typed words that it knows, in an order of its own."""
        left_out = {*_NOT_TAKEN[command], "preset", "config", *without}
        known = [option for option in options_of(steps.app, command) if option not in left_out]
        mine = (word for option in known for word in self.typed.get(option, ()))
        return (*words_of({"preset": self.files.preset, "config": self.files.config}), *mine)


@dataclass(frozen=True)
class Training:
    """Everything to run.

    Attributes:
        recipe: What it follows.
        config: The config file, which the later steps may have a section in.
        finetune: Words of that command; () where the recipe has none.
        start: Its effective options, where it has one.
        plan: The extractions and the fits.
        extractions, fits: Effective options of each extraction and of each fit.
        frozen: How many of the extractions, the first ones, are with networks as they came.
    """

    recipe: Recipe
    config: Path | None
    finetune: Words
    start: tuple[BackboneOptions, FinetuneOptions] | None
    plan: Plan
    extractions: tuple[tuple[BackboneOptions, ExtractOptions], ...]
    fits: tuple[FitOptions, ...]
    frozen: int

    @property
    def out(self) -> Path:
        """Where everything goes."""
        return self.plan.out

    @property
    def model(self) -> Path:
        """The model file that all of it is for."""
        return self.out / "runs" / HEADS / "models" / "final.joblib"

    @property
    def commands(self) -> tuple[tuple[str, Words], ...]:
        """(command, words) up to the fits, in their order; the fits as they are before a folder is named."""
        first = (("finetune", self.finetune),) if self.finetune else ()
        extractions = (("extract", step.words) for step in self.plan.extractions)
        return (*first, *extractions, *(("fit-heads", step.words) for step in self.plan.runs))


def catalogue_options(request: Request, steps: Steps) -> DataOptions:
    """The catalogue that the words and files of a training name.

    Raises:
        cyclopts.CycloptsError, OptionError: As `parse` does.
    """
    return _options(steps, "extract", request.words(steps, "extract"), "data", DataOptions)


def default_out(data: DataOptions) -> Path:
    """Where a training of this catalogue goes when nobody says where."""
    return Path("runs") / f"train-{catalogue_name(data)}"


def catalogue_name(data: DataOptions) -> str:
    """What the catalogue is called: its file or folder, or the folder around one that says only what it holds."""
    named = (data.data or Path("catalogue")).resolve()
    plain = named.name.casefold() in _PLAIN and named.parent.name
    return tidied(named.parent.name if plain else named.stem if named.is_file() else named.name) or "catalogue"


def plan_training(request: Request, recipe: Recipe, steps: Steps) -> Training:
    """The commands of a training, each one parsed once, so that a wrong word is said before any work.

    Raises:
        cyclopts.CycloptsError, OptionError: As `parse` does, and for what cannot be put together.
    """
    request = replace(request, files=replace(request.files, preset=recipe.preset))
    extract = request.words(steps, "extract")
    data = _options(steps, "extract", extract, "data", DataOptions)
    out = request.options.out or default_out(data)
    finetune, start, tuned = _finetuning(request, recipe, steps, out)
    first = _options(steps, "extract", extract, "backbone", BackboneOptions)
    frozen = (first, *_beside(request.options.beside, first))
    extractions = [
        Step("extract", extract),
        *(Step(f"extract, {each.backbone}", _with(each, request, steps)) for each in frozen[1:]),
        *(_tuned(_EXTRACTIONS[use], request, steps, each) for use, each in tuned.items()),
    ]
    made = tuple(_extraction(steps, step.words) for step in extractions)
    runs = [Step(HEADS, _fit_words(request, steps, frozen, tuned))]
    split = tuple(word for option in sorted(_SPLIT & request.typed.keys()) for word in request.typed[option])
    split = ("--split-from", str(out / "finetuned")) if tuned else split
    heads = _options(steps, "fit-heads", (*runs[0].words, *split), "options", FitOptions)
    products = _options(steps, "fit-heads", (*runs[0].words, *split), "split", SplitOptions)
    if beside := _baselines(request.options, heads):
        # Of several kinds in the cache the baselines see the recipe's own.
        own = changed(first) if len(made) == 1 else vars(first)
        words = words_of({**changed(data), **own, **_shared(heads, products)})
        runs.append(Step(BASELINES, (*words, *beside)))
    fits = (heads, *(_options(steps, "fit-heads", run.words, "options", FitOptions) for run in runs[1:]))
    plan = Plan(out, tuple(extractions), tuple(runs), split, ())
    return Training(recipe, request.files.config, finetune, start, plan, made, fits, len(frozen))


def _extraction(steps: Steps, words: Words) -> tuple[BackboneOptions, ExtractOptions]:
    backbone = _options(steps, "extract", words, "backbone", BackboneOptions)
    return backbone, _options(steps, "extract", words, "options", ExtractOptions)


def _beside(names: Sequence[str], first: BackboneOptions) -> tuple[BackboneOptions, ...]:
    """The frozen backbones that stand beside the recipe's own.

    Raises:
        OptionError: One is named twice, or the weights are a file, which is of one backbone.
    """
    every = [first.backbone, *names]
    if twice := [name for name in names if every.count(name) > 1]:
        raise OptionError(f"--beside names {twice[0]} twice, or it is the recipe's own backbone; name others")
    if names and names_file(first.weights):
        raise OptionError(
            f"--beside takes weights by the name of those of {first.backbone}, and {first.weights} are a file; say "
            "--weights package, or use fit-heads with several --backbone and --weights"
        )
    return tuple(replace(first, backbone=name) for name in names)


def _with(backbone: BackboneOptions, request: Request, steps: Steps, without: Collection[str] = ()) -> Words:
    """Words of an extraction with another backbone than the recipe's own."""
    return (*request.words(steps, "extract", without=(*_BACKBONE, *without)), *words_of(vars(backbone)))


def _tuned(name: str, request: Request, steps: Steps, tuned: BackboneOptions) -> Step:
    """An extraction with a fine-tuned network: what it has learnt is in its last layer, the rest is in the start."""
    return Step(name, (*_with(tuned, request, steps, ("features",)), "--features", "pooled"), "finetune")


def _fit_words(
    request: Request, steps: Steps, frozen: Sequence[BackboneOptions], tuned: Mapping[str, BackboneOptions]
) -> Words:
    """Words of the fit; vectors that were asked for by what extract calls them are those that it uses.

    Args:
        request: What was asked for.
        steps: The commands.
        frozen: The backbones as they came.
        tuned: Those that come out of finetune, by the fit they are for.
    """
    kinds = (*frozen, tuned[_FIRST]) if tuned else frozen
    named = _all(kinds) if len(kinds) > 1 else ()
    for fit, backbone in tuned.items():
        if fit != _FIRST:
            named += words_of({f"{fit}-weights": (*(each.weights for each in frozen), backbone.weights)})
    words = request.words(steps, "fit-heads", without=_BACKBONE if named else ())
    if len(frozen) > 1 and "vectors" not in request.typed:
        recipe = _options(steps, "fit-heads", (*words, *named), "options", FitOptions)
        named += words_of({"vectors": _each_alone(recipe, len(frozen))})
    use = request.typed.get("features", ()) if "use" not in request.typed else ()
    return (*words, *(word.replace("--features", "--use", 1) for word in use), "--final", *named)


def _each_alone(recipe: FitOptions, frozen: int) -> tuple[str, ...]:
    """Which vectors the heads of a recipe see when more frozen networks stand beside its own.

    Heads of several networks are better averaged than fit on all of their vectors (docs/BACKBONES.md); a recipe that
    averages nothing has one head, which sees all of them.
    """
    if recipe.vectors == ("1",):
        return tuple(str(number) for number in range(1, frozen + 1))
    return ("each",) if recipe.vectors == ("joined",) and recipe.ensemble else recipe.vectors


def _finetuning(
    request: Request, recipe: Recipe, steps: Steps, out: Path
) -> tuple[Words, tuple[BackboneOptions, FinetuneOptions] | None, dict[str, BackboneOptions]]:
    """Words of finetune, its options, and the backbones that come of it by the fit they are for; nothing without it."""
    if "finetune" not in recipe.sections:
        return (), None, {}
    larger = {} if "size" in request.typed else {"size": recipe.square}
    words = (*request.words(steps, "finetune"), *words_of(larger), "--out", str(out / "finetuned"))
    options = _options(steps, "finetune", words, "options", FinetuneOptions)
    if options.train == "head":
        raise OptionError(
            "the recipe's section finetune trains heads alone (train: head), which leaves the vectors as they are; "
            "let it train the network (train: all, or last:N), or leave the section out"
        )
    start = _options(steps, "finetune", words, "backbone", BackboneOptions)
    folders = {_FIRST: out / "finetuned"}
    folders |= {use: out / "finetuned" / use for use in _EXTRACTIONS if getattr(options, use, False)}
    tuned = {use: replace(start, weights=str(folder / "backbone.safetensors")) for use, folder in folders.items()}
    return words, (start, options), tuned


def _all(kinds: Sequence[BackboneOptions]) -> Words:
    """The words that name the vectors of several networks, in their order."""
    said: dict[str, object] = {}
    for name in _BACKBONE:
        values = tuple(getattr(kind, name) for kind in kinds)
        alike = len(set(values)) == 1
        if not alike and None in values:
            raise OptionError(f"extract and finetune disagree on {name}: say it in the recipe, for both of them")
        said[name] = values[0] if alike else values
    return words_of(said)


def _baselines(options: TrainOptions, heads: FitOptions) -> Words:
    """Words that name the heads of a plain run to compare with; () where the recipe has them among its own."""
    wanted = tuple(head for head in options.baselines if head != "none")
    if not wanted or (set(wanted) <= set(heads.heads) and heads.ensemble == 0):
        return ()
    return words_of({"heads": wanted, "use": ("pooled",), "views": ("identity",), **_WITHOUT})


def _shared(heads: FitOptions, products: SplitOptions) -> dict[str, Any]:
    """What every fit shares, however its heads are made."""
    names = ("cache", "device", "memory", "group_column", "group_regex")
    return {name: value for name, value in changed(heads, products).items() if name in names}


def _options(steps: Steps, command: str, words: Words, name: str, kind: type[T]) -> T:
    """One group of a command's options, as the parser makes them of its words."""
    given: T = steps.parsed(command, *words).keywords.get(name, kind())
    return given
