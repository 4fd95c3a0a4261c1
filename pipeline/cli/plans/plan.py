"""What `reproduce` runs, as data: which photos become vectors, which heads are fit on them, under which names.

One YAML file holds it (`configs/tshirt-notebook.yaml`, `configs/category-46-keys.yaml`):

    out: runs/notebook                  # folder of the runs, the table and the report page
    cache: features
    data: {data: catalogue}             # any data option; {data} inside a value is the folder of the data
    split: {split: 80/10/10}            # any split option; the first run makes the split, the others take it
    extractions:                        # any backbone and extract option
      small: {backbone: resnet18, size: 256, views: [identity, hflip]}
    runs:                               # any fit-heads option; a list means several values, as on the command line
    - {name: adam, extraction: small, heads: [linear], optimizers: [adam], epochs: 10}

A section `finetunings` trains networks for some of the extractions (`pipeline.cli.plans.finetunings`).
A run belongs to one extraction or to each of a list, and uses all of its features and views unless it says otherwise.
Its name begins with the backbone and the size that it was really made with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cli.plans.finetunings import FINETUNED, START, Finetunings
from pipeline.cli.plans.sections import SECTIONS, data_options, named_sections, option_names, said, section
from pipeline.errors import OptionError
from pipeline.names import tidied, wrong_name
from pipeline.options import (
    BackboneOptions,
    CacheKeyOptions,
)
from pipeline.options.forms.words import words_of
from pipeline.options.forms.yaml_file import check_option, load_yaml

Words = tuple[str, ...]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Overrides:
    """What the command line says instead of the file; None, or no entry, leaves the file's word.

    Attributes:
        data: Data options that were given, by name.
    """

    data: Options = field(default_factory=dict)
    backbone: str | None = None
    weights: str | None = None
    cache: Path | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: Of the run or the vectors.
        words: The command's options.
        after: Of a run, its vectors; of vectors, the network that is trained for them.
    """

    name: str
    words: Words
    after: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything to run, in this order: each extraction after its finetunings, then the runs on it.

    Attributes:
        finetunings: Networks that some extractions need, each after the one that it starts from.
        split: Options of the split that the first run makes.
        not_run: Why runs that the file names are not planned.
    """

    out: Path
    extractions: tuple[Step, ...]
    runs: tuple[Step, ...]
    split: Words
    not_run: tuple[str, ...]
    finetunings: tuple[Step, ...] = ()

    def trained_for(self, extraction: Step) -> tuple[Step, ...]:
        """The finetunings that an extraction needs, in their order."""
        steps, name = list[Step](), extraction.after
        for step in reversed(self.finetunings):
            if step.name == name:
                steps.insert(0, step)
                name = step.after
        return tuple(steps)

    def runs_on(self, extraction: Step) -> tuple[Step, ...]:
        """The runs that use these vectors."""
        return tuple(run for run in self.runs if run.after == extraction.name)

    def folder(self, run: Step) -> Path:
        """The run folder of a run."""
        return self.out / "runs" / run.name


def read_plan(path: Path, overrides: Overrides) -> Plan:
    """The plan that a file and the command line make together.

    Raises:
        OptionError: For a file that is no such plan, an unknown option (the nearest one is named), a run on vectors
            that the file does not describe, a run whose name cannot be a folder's, and two different runs of one name.
    """
    content = {str(name): value for name, value in load_yaml(path).items()}
    for name, value in content.items():
        check_option(name, ["out", "cache", *SECTIONS], str(path))
        if name in ("out", "cache") and not isinstance(value, str | None):
            raise OptionError(f"{path}, {name} holds {said(value)}; expected the name of a folder")
    stated = named_sections(content.get("extractions"), path, "extractions")
    rows = content.get("runs")
    if not stated or not isinstance(rows, list) or not rows:
        raise OptionError(f"{path} is no plan: it needs `extractions` (name: options) and a list of `runs`")
    split = section("split", content.get("split"), f"{path}, split")
    cache = {"cache": overrides.cache or content.get("cache", "features")}
    data = data_options(section("data", content.get("data"), f"{path}, data") | dict(overrides.data))
    shared: Options = {name: split.pop(name) for name in ("group-column", "group-regex") if name in split}
    out = Path(overrides.out or content.get("out") or Path("runs") / path.stem)
    networks = _networks(content.get("finetunings"), path, out, overrides)
    extractions = {
        name: _extraction(options, overrides, networks, f"{path}, extraction {name}")
        for name, options in stated.items()
    }
    maker = _Maker(path, extractions, {**data, **cache}, shared)
    runs = maker.runs(rows)
    vectors = {_vectors(each.options): each for each in extractions.values()}
    used = {run.after: vectors[run.after] for run in runs}
    trained = dict.fromkeys(n for each in used.values() if each.finetuned for n in networks.chain(each.finetuned, ""))
    return Plan(
        out=out,
        finetunings=tuple(
            Step(name, networks.words(name, {**data, **shared}), after=str(networks.options[name].get(START) or ""))
            for name in trained
        ),
        extractions=tuple(
            Step(name, words_of({**data, **cache, **each.options}), after=each.finetuned) for name, each in used.items()
        ),
        runs=tuple(runs),
        split=words_of(split),
        not_run=tuple(maker.replaced),
    )


@dataclass(frozen=True)
class _Extraction:
    """Options of an extraction as the command line has them, the label that the file gave them, and its network."""

    options: Options
    planned: str
    finetuned: str = ""

    @property
    def label(self) -> str:
        """What its vectors are called."""
        return label(self.options) + (f"-{self.finetuned}" if self.finetuned else "")


class _Maker:
    """Turns the rows of a file into runs.

    Attributes:
        extractions: By name.
        base: Data and cache options of every run.
        grouping: Those that say which photos are of one product.
        replaced: Why runs of the file are not planned.
    """

    def __init__(self, path: Path, extractions: Mapping[str, _Extraction], base: Options, grouping: Options) -> None:
        self.path = path
        self.extractions = extractions
        self.base, self.grouping = base, grouping
        self.replaced: list[str] = []

    def runs(self, rows: Sequence[object]) -> list[Step]:
        """One run per row and extraction; equal ones once."""
        made: dict[str, Step] = {}
        for number, row in enumerate(rows, 1):
            where = f"{self.path}, run {number}"
            options = section("runs", row, where)
            name, wanted = str(options.pop("name", "")), options.pop("extraction", None)
            if not name:
                raise OptionError(f"{where} has no name")
            if wrong := wrong_name(name):
                raise OptionError(f"{where}: the name {name!r} {wrong}; its run folder is named by it")
            for extraction in map(str, wanted) if isinstance(wanted, list) else [str(wanted)]:
                if extraction not in self.extractions:
                    raise OptionError(f"{where}: no extraction {extraction!r}; there are {', '.join(self.extractions)}")
                step = self._run(name, extraction, options)
                if made.setdefault(step.name, step).words != step.words:
                    raise OptionError(f"{where}: another run is named {step.name}; give them different names")
        return list(made.values())

    def _run(self, name: str, extraction: str, options: Options) -> Step:
        vectors = self.extractions[extraction]
        made, planned = vectors.options, vectors.planned
        run = f"{vectors.label}-{name}"
        if wrong := wrong_name(run):
            raise OptionError(f"{self.path}: the run {run!r} {wrong}; its run folder is named by it")
        if vectors.label != planned:
            self.replaced.append(f"row not run: {planned}-{name}: the command line names another backbone; see {run}")
        cache_key = {option: made[option] for option in option_names(CacheKeyOptions) if option in made}
        mine = {"use": made.get("features", ["pooled"]), "views": made.get("views", ["identity"])}
        words = words_of({**self.base, **cache_key, **self.grouping, **mine, **options})
        return Step(run, words, after=_vectors(made))


def label(extraction: Options) -> str:
    """What vectors are called in the names of runs: backbone, size, and how photos became squares unless squashed."""
    resize = extraction.get("resize", "squash")
    parts = (extraction["backbone"], extraction.get("size"), None if resize == "squash" else resize)
    return tidied("-".join(str(part) for part in parts if part is not None))


def _vectors(extraction: Options) -> str:
    return " ".join(words_of(extraction))


def _extraction(options: Options, overrides: Overrides, networks: Finetunings, where: str) -> _Extraction:
    if finetuned := str(options.get(FINETUNED) or ""):
        made = networks.extraction(finetuned, options, where)
        return _Extraction(made, f"{label(made)}-{finetuned}", finetuned)
    written = {**_START, **options}
    return _Extraction(_asked(written, overrides), label(written))


_START = {"backbone": BackboneOptions.backbone, "weights": BackboneOptions.weights}


def _asked(options: Options, overrides: Overrides) -> Options:
    """Options with the backbone and weights of the command line."""
    changed = {"backbone": overrides.backbone, "weights": overrides.weights}
    return {**options, **{name: value for name, value in changed.items() if value is not None}}


def _networks(content: object, path: Path, out: Path, overrides: Overrides) -> Finetunings:
    stated = named_sections(content, path, "finetunings")
    return Finetunings(
        {
            name: options if START in options else _asked({**_START, **options}, overrides)
            for name, options in stated.items()
        },
        out,
    )
