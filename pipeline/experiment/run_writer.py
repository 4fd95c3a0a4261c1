"""A run folder: what one `fit-heads` call leaves for `compare` and for people."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float32, UInt8
from pipeline.catalogue import PARTS, Finding, column_name, count_kinds, write_split
from pipeline.errors import OptionError, RunError
from pipeline.experiment.candidates import JudgedHead
from pipeline.experiment.rows import Experiment
from pipeline.experiment.run_tables import Rows, write_table
from pipeline.experiment.thumbnails import choose_photos, write_thumbnails
from pipeline.features.near_duplicates import Neighbour, Neighbours, across_parts, sentence
from pipeline.features.vectors.joined import JoinedFeatures
from pipeline.features.vectors.origin import as_fields
from pipeline.heads import FittedHead
from pipeline.machine import host_facts, package_versions
from pipeline.names import BEGUN
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions
from pipeline.system import file_digest, only_writer, write_json, write_records


@dataclass(frozen=True)
class RunFolder:
    """Writes the files of one run; `run.json` comes last, so a folder that has it is complete."""

    path: Path

    @classmethod
    def new(cls, path: Path) -> RunFolder:
        """A run folder to be.

        Raises:
            RunError: The folder already holds more than a reproduction's mark.
        """
        folder = cls(path)
        folder._require_empty()
        return folder

    def _require_empty(self) -> None:
        path = self.path
        if path.exists() and (not path.is_dir() or any(each.name != BEGUN for each in path.iterdir())):
            raise RunError(f"{path} already exists and is not empty; name another folder with --out, or remove it")

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and hold it for this process alone; what a failed block has written into it goes.

        Raises:
            RunError: Another process writes there, or has.
        """
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with only_writer(self.path, RunError):
            self._require_empty()
            try:
                yield
            except BaseException:
                self._remove(is_new)
                raise

    def _remove(self, is_new: bool) -> None:
        for entry in [entry for entry in self.path.iterdir() if entry.name != BEGUN]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def create(self) -> None:
        """Make the folders."""
        for sub in ("predictions/uncalibrated", "models"):
            (self.path / sub).mkdir(parents=True, exist_ok=True)

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of one of the folder's files."""
        return file_digest(self.path / name)

    def write_labels(self, photos: Sequence[str], columns: Sequence[str], Y: UInt8, mask: Bool) -> None:
        """Write labels.parquet: photo, then 1, 0 or null per `<attribute>=<value>`; Y and mask are (n, L)."""
        import pyarrow as pa

        arrays = [pa.array(photos, pa.string())]
        arrays += [pa.array(Y[:, j].astype(np.int8), pa.int8(), mask=~mask[:, j]) for j in range(len(columns))]
        write_table(self.path / "labels.parquet", pa.table(arrays, names=["photo", *columns]))

    def write_predictions(self, config_id: str, rows: Rows, P: Float32, columns: Sequence[str]) -> None:
        """Write predictions/<config_id>.parquet; P is (n, L)."""
        import pyarrow as pa

        arrays = [pa.array(rows.photos, pa.string()), pa.array(rows.parts.tolist(), pa.string())]
        arrays += [pa.array(np.ascontiguousarray(P[:, j]), pa.float32()) for j in range(P.shape[1])]
        names = ["photo", "part", *(f"p:{c}" for c in columns)]
        write_table(self.path / "predictions" / f"{config_id}.parquet", pa.table(arrays, names=names))

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
        """Write one table of records as <name>."""
        write_records(self.path / name, rows, columns)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write <name> in one step."""
        write_json(self.path / name, content)

    def model_path(self, config_id: str) -> Path:
        """Where the model file of a configuration goes."""
        return self.path / "models" / f"{config_id}.joblib"


@dataclass(frozen=True)
class Request:
    """The options of one call, as run.json records them."""

    data: DataOptions
    cache_key: CacheKeyOptions
    split: SplitOptions
    fit: FitOptions

    def to_json(self) -> dict[str, Any]:
        """The options by group and name."""
        return {
            "data": asdict(self.data),
            "key": self.cache_key.to_json(),
            "split": asdict(self.split),
            "fit": asdict(self.fit),
        }


def write_rows(folder: RunFolder, experiment: Experiment) -> None:
    """Write split.csv, labels.parquet and dropped.csv."""
    names, targets, unseen = experiment.catalogue.filenames, experiment.truth, experiment.unseen
    write_split(folder.path / "split.csv", names, experiment.ids, experiment.groups, experiment.split)
    columns = [*targets.schema.column_names, *(column_name(attribute, value) for attribute, value in unseen.labels)]
    Y = np.concatenate([targets.Y, unseen.Y.astype(np.uint8)], axis=1)
    known = np.concatenate([targets.known, experiment.known_of([a for a, _ in unseen.labels])], axis=1)
    folder.write_labels(names, columns, Y, known)
    folder.write_csv(
        "dropped.csv",
        [{"kind": f.kind, "photo": f.filename, "detail": f.detail} for f in experiment.findings],
        ("kind", "photo", "detail"),
    )


def write_pictures(folder: RunFolder, experiment: Experiment, limit: int) -> Experiment:
    """Thumbnails of test photos; the experiment with one finding more when some photos have none."""
    test = experiment.split.rows("test")
    rows = test[choose_photos(experiment.ids[test], limit)]
    names, paths = experiment.catalogue.filenames, experiment.catalogue.paths
    problems = write_thumbnails(folder.path, [names[i] for i in rows], [paths[i] for i in rows])
    if not problems:
        return experiment
    first, why = next(iter(problems.items()))
    detail = f"{len(problems)} of {len(rows)} test photos have no thumbnail, such as this one: {why}"
    return replace(experiment, findings=(*experiment.findings, Finding("no-thumbnail", first, detail)))


def write_neighbours(
    folder: RunFolder, experiment: Experiment, options: SplitOptions, limit: int
) -> tuple[Neighbours | None, tuple[str, ...]]:
    """Write neighbours.csv, and return the near-duplicates across the parts with what a person should know of them.

    Args:
        folder: Where it goes.
        experiment: Whose photos are compared.
        options: Say from which cosine; nothing is written when they say 0.
        limit: Bytes that the vectors may take; more are read from the cache as they are needed.
    """
    if not options.near_duplicates:
        return None, ()
    try:
        rows, X = experiment.pooled(limit)
    except OptionError as error:
        return None, (f"no neighbours.csv: {error}",)
    names = [experiment.catalogue.filenames[i] for i in rows]
    near = across_parts(names, experiment.split.parts[rows], X, PARTS, options.near_duplicates)
    folder.write_csv("neighbours.csv", [asdict(pair) for pair in near.closest], [f.name for f in fields(Neighbour)])
    note = sentence(near.to_json())
    return near, (note,) if note else ()


def write_configs(
    folder: RunFolder, fitted: Sequence[FittedHead], candidates: Sequence[JudgedHead], kinds: int = 1
) -> None:
    """Write configs.csv and history.csv: every configuration fitted, and what was measured of those judged.

    Of several kinds of vectors, the column `vectors` says which a configuration takes: joined (all side by side), or
    their numbers, from 1 in the order of run.json's `sources`.
    """
    judged = {candidate.config_id: candidate for candidate in candidates}
    heads = {head.config.config_id: head for head in fitted} | {c.config_id: c.head for c in candidates}
    rows, history = [], []
    for config_id, head in heads.items():
        row: dict[str, Any] = {"config_id": config_id, **asdict(head.config)}
        if len(head.members) > 1:
            row |= {"head": "ensemble", "optimizer": ""}
        row["vectors"] = _vectors_taken(judged[config_id].made_of if config_id in judged else [head])
        if kinds == 1:
            del row["vectors"]
        row |= {"validation_loss": head.validation_loss, "best_epoch": head.best_epoch, "seconds": head.seconds}
        if config_id in judged:
            candidate = judged[config_id]
            row |= {"policy": candidate.chosen, "validation_score": candidate.score}
            row |= {f"validation_{name}": value for name, value in candidate.metrics.items()}
        row |= {"not_learnable": len(head.not_learnable), "note": head.note}
        rows.append(row)
        history += [{"config_id": config_id, **record} for record in head.history]
    folder.write_csv("configs.csv", rows)
    folder.write_csv("history.csv", history, None if history else ("config_id", "epoch", "split", "loss"))


def _vectors_taken(made_of: Sequence[FittedHead]) -> str:
    return "+".join(str(kind or "joined") for kind in sorted({head.config.vectors for head in made_of}))


def write_predictions(folder: RunFolder, kept: Sequence[JudgedHead], sees: Callable[[JudgedHead], Experiment]) -> None:
    """Write the probabilities of validation and test rows, and decisions.json.

    Args:
        folder: Where they go.
        kept: Whose.
        sees: The experiment of each, whose vectors its head takes; all have the same rows.
    """
    decisions: dict[str, Any] = {}
    for candidate in kept:
        experiment = sees(candidate)
        split, names = experiment.split, experiment.catalogue.filenames
        at = np.concatenate([split.rows("validation"), split.rows("test")])
        rows = Rows(tuple(names[i] for i in at), split.parts[at])
        columns = experiment.targets.schema.column_names
        P = np.concatenate([candidate.P, experiment.predict(candidate.head, "test")])
        folder.write_predictions(candidate.config_id, rows, P, columns)
        policies = {
            name: {"thresholds": policy.thresholds.tolist(), "validation_score": policy.score}
            for name, policy in candidate.policies.items()
        }
        decisions[candidate.config_id] = {
            "links": list(candidate.head.links),
            "policies": policies,
            "chosen": candidate.chosen,
        }
        if candidate.calibration is not None:
            decisions[candidate.config_id]["calibration"] = candidate.calibration.to_json()
    folder.write_json("decisions.json", decisions)


def write_uncalibrated(folder: RunFolder, experiment: Experiment, best: JudgedHead) -> None:
    """The best candidate's test probabilities before calibration, so that `compare` can show what it changed."""
    if best.calibration is None:
        return
    at = experiment.split.rows("test")
    rows = Rows(tuple(experiment.catalogue.filenames[i] for i in at), experiment.split.parts[at])
    P = experiment.predict(best.uncalibrated, "test")
    folder.write_predictions(f"uncalibrated/{best.config_id}", rows, P, experiment.targets.schema.column_names)


def write_run(
    folder: RunFolder,
    experiment: Experiment,
    request: Request,
    best: JudgedHead,
    near: Neighbours | None,
    seconds: Mapping[str, float],
) -> None:
    """Write run.json, which says that everything else is there."""
    folder.write_json(
        "run.json",
        {
            "format": "selvedge-run",
            "version": 1,
            "name": folder.path.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": request.to_json(),
            "versions": package_versions(),
            "host": host_facts(),
            "data_digest": experiment.catalogue.digest,
            "split_digest": folder.digest("split.csv"),
            **_vectors(experiment.features),
            "random_weights": any(i.notes.get("random_weights", False) for i in experiment.features.infos),
            "schema": experiment.targets.schema.to_json(),
            "unseen": experiment.unseen.labels,
            "seeds": {"split": request.split.split_seed, "fit": list(request.fit.seed)},
            "parts": experiment.split.counts(),
            "timings": dict(seconds),
            "best": best.config_id,
            "policy": best.chosen,
            "not_measurable": list(experiment.split.not_measurable),
            "findings": count_kinds(experiment.findings),
            "near_duplicates": near.to_json() if near else None,
        },
    )


def _vectors(features: JoinedFeatures) -> dict[str, Any]:
    """What X is made of; of several kinds the facts of each stand in `sources`."""
    fields = as_fields(features.origins)
    more = [{"cache_digest": i.digest, "fine_tuned": i.notes.get("fine_tuned")} for i in features.infos]
    if "sources" in fields:
        fields["sources"] = [source | facts for source, facts in zip(fields["sources"], more, strict=True)]
    else:
        fields |= more[0]
    return {**fields, "views": features.views}
