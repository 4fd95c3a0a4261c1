"""Readers of model files, weights, checkpoints and the cache."""

from __future__ import annotations

import io
import json
import pickle
import random
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing.mutations import by_json, put, reshaped
from benchmarks.fuzzing.reader import Mutation, Reader
from pipeline.errors import BackboneError, ModelFileError, RunError
from tests.mutations import ARRAYS


class ModelReader(Reader):
    """Model files with and without their .sha256: what is accepted decides as what was saved does."""

    name = "model"
    errors = (ModelFileError,)
    seconds = 10.0

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        import joblib
        from sklearn.linear_model import LogisticRegression

        from pipeline.model.file import read_model, save_model
        from tests.model.test_file import make_model

        dense = make_model()
        rng = np.random.default_rng(0)
        X = rng.normal(size=(40, 5)).astype(np.float32)
        trained = LogisticRegression().fit(X, np.arange(40) % 8)
        self._X = rng.normal(size=(40, 5)).astype(np.float32)
        for name, model in (("dense.joblib", dense), ("wide.joblib", _with_zeros(dense))):
            save_model(model, home / name)
            self.samples[name] = (home / name).read_bytes()
        self.samples["checked@.joblib"] = self.samples["dense.joblib"]
        self.samples["digest@.sha256"] = (home / "dense.joblib.sha256").read_bytes()
        for name, compress in (("old@.joblib", 0), ("old@z.joblib", 3)):
            stream = io.BytesIO()
            joblib.dump(dense, stream, compress=compress)
            self.samples[name] = stream.getvalue()
        stream = io.BytesIO()
        joblib.dump(_tested({**dense, "members": [{"kind": "estimator", "estimator": trained}]}), stream)
        self.samples["old@estimator.joblib"] = stream.getvalue()
        self._content = dense
        self._right = {}
        for name in ("dense.joblib", "wide.joblib"):
            self._right[name] = self._answer(read_model(home / name))
        self._right["checked@.joblib"] = self._right["digest@.sha256"] = self._right["dense.joblib"]

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        """Another value, type or name anywhere in the dict of a model without a digest."""
        import joblib

        if not sample.startswith("old"):
            return None
        stream = io.BytesIO()
        try:
            joblib.dump(reshaped(self._content, rng, ARRAYS), stream, compress=rng.choice((0, 3)))
        except (TypeError, ValueError, AttributeError, OverflowError, pickle.PicklingError):
            return None  # what cannot be written need not be read
        return stream.getvalue()

    def read(self, sample: str, data: bytes) -> str:
        from pipeline.model.file import read_model

        path, digest = self.home / "model.joblib", self.home / "model.joblib.sha256"
        put(path, self.samples["dense.joblib"] if sample == "digest@.sha256" else data)
        sidecar = {"digest@.sha256": data, "checked@.joblib": self.samples["digest@.sha256"]}
        put(digest, sidecar.get(sample, b"@nothing@"))
        answer = self._answer(read_model(path))
        right = self._right.get(sample)
        return "" if right is None or answer == right else "other probabilities, decisions or labels were accepted"

    def _answer(self, model: dict[str, Any]) -> tuple[object, ...]:
        from pipeline.model.file import decisions, proba, schema_of

        P = proba(model, self._X)
        names = ("blocks", "views", "cache_key", "weights_source", "sources", "links", "decision")
        facts = [model.get(name) for name in names]
        return P.tobytes(), decisions(model, P).tobytes(), schema_of(model), json.dumps(facts, default=repr)


def _with_zeros(model: dict[str, Any]) -> dict[str, Any]:
    """A model that is written compressed: block-diagonal layers."""
    members = [{**m, "layers": [(W * (np.abs(W) > 1), b) for W, b in m["layers"]]} for m in model["members"]]
    return _tested({**model, "members": members})


def _tested(model: dict[str, Any]) -> dict[str, Any]:
    """The model with a self-test of its own."""
    from pipeline.model.file import decisions, proba

    X = model["selftest"]["X"]
    P = proba(model, X)
    return {**model, "selftest": {"X": X, "P": P, "decisions": decisions(model, P)}}


class WeightsReader(Reader):
    """Weights files: safetensors, .pth as torch writes it now (zip) and as it once did (pickles)."""

    name = "weights"
    errors = (BackboneError,)
    seconds = 10.0
    megabytes = 1024

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        import safetensors.torch
        import torch

        from pipeline.features.backbone.provenance import FACTS
        from pipeline.features.backbone.weights import load_net

        torch.set_num_threads(1)
        self._net = load_net("test_resnet", "random:0")
        tensors = {
            name: tensor[:2].clone() if tensor.ndim > 1 else tensor for name, tensor in self._net.state_dict().items()
        }
        tensors = dict(list(tensors.items())[:12])
        facts = {FACTS: json.dumps({"split": "x", "epochs": [1]}), "trained_on": "QUFB" * 32}
        self.samples["w.safetensors"] = safetensors.torch.save(tensors, {**facts, "trained_on": ""})
        for name, zipped in (("zip@.pth", True), ("legacy@.pth", False)):
            stream = io.BytesIO()
            held = {"state_dict": tensors, "epoch": 3, "optimizer": {"param_groups": [{"betas": (0.9, 0.99)}]}}
            torch.save(held, stream, _use_new_zipfile_serialization=zipped)
            self.samples[name] = stream.getvalue()
        self._tensors = tensors

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        """Weights with something else among them, or a header of another shape."""
        import torch

        if sample == "w.safetensors":
            data = self.samples[sample]
            (size,) = struct.unpack("<Q", data[:8])
            head = by_json(data[8 : 8 + size], rng)
            return (
                struct.pack("<Q", rng.choice((len(head), len(head), len(head), 2**40, 2**63))) + head + data[8 + size :]
            )
        odd = (torch.zeros(2, 2), torch.zeros(0), torch.zeros(1).expand(2**20), torch.zeros(2, 2).to_sparse(), [], 7)
        content = reshaped({"state_dict": dict(self._tensors), "n": [1, (2, 3)]}, rng, odd)
        stream = io.BytesIO()
        try:
            torch.save(content, stream, _use_new_zipfile_serialization=sample.startswith("zip"))
        except (TypeError, ValueError, AttributeError, RuntimeError, OverflowError, UnicodeError):
            return None
        return stream.getvalue()

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_pickle_codes,) if sample == "legacy@.pth" else ()

    def read(self, sample: str, data: bytes) -> str:
        from pipeline.features.backbone.provenance import read_seen
        from pipeline.features.backbone.weights import read_tensors

        path = self.home / ("w" + Path(sample).suffix)
        put(path, data)
        tensors = read_tensors(path)
        read_seen(str(path)).note()
        str(sum(tensor.numel() for tensor in tensors.values()))
        return ""


def by_pickle_codes(data: bytes, rng: random.Random) -> bytes:
    """Pickle codes put in: memo, doubling tuples, marks, numbers, reduce and build of what cannot be."""
    codes = (
        *(bytes([code]) for code in b"012(t}])RbQsuae\x81\x85\x86\x87N."),
        *(b"h\x00", b"h\x01", b"q\x00", b"J\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"K\x01", b"G" + b"\x7f" * 8),
        *(
            b"\x8a\xff" + b"\x7f" * 255,
            b"Nq\x00" + b"h\x00h\x00\x86q\x00" * 60,
            b"h\x00h\x00\x86q\x00" * 60 + b")R",
            b")\x85" * 3_000,
            b"ctorch\nload\n",
        ),
    )
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(min(len(data), 2_500))
        data = data[:at] + rng.choice(codes) + data[at + rng.choice((0, 0, 1, 2, 5)) :]
    return data


class CheckpointReader(Reader):
    """A fine-tuning's checkpoint, taken up again."""

    name = "checkpoint"
    errors = (RunError,)
    seconds = 10.0

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        import torch

        from pipeline.catalogue import LabelSchema
        from pipeline.features.backbone.network import load_backbone
        from pipeline.finetuning.checkpoint import NAME
        from pipeline.finetuning.loop import Training
        from pipeline.finetuning.network.objective import objective
        from pipeline.finetuning.photos.augment import Augmentation
        from pipeline.options import BackboneOptions, FinetuneOptions

        torch.set_num_threads(1)
        options = FinetuneOptions(train="head", device="cpu", amp="off")
        backbone = load_backbone(BackboneOptions(backbone="test_resnet", weights="random:0", size=32))
        schema = LabelSchema(("neck",), (("crew", "polo", "v"),), (True,))
        goal = objective(np.eye(3, dtype=np.uint8), np.ones((3, 3), np.bool_), schema, options)
        self._training = Training(backbone, goal, schema, Augmentation.of(options, 0.0), options)
        self._name = NAME
        self._state = self._training._state()
        record = dict.fromkeys(("lr", "train_loss", "validation_loss", "validation_score", "seconds"), 0.5)
        self._state |= {"history": [{"epoch": 1, **record}], "best": dict(self._state["model"])}
        for name, zipped in (("zip.pt", True), ("legacy.pt", False)):
            stream = io.BytesIO()
            torch.save(self._state, stream, _use_new_zipfile_serialization=zipped)
            self.samples[name] = stream.getvalue()

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        """A state with other values, types or shapes in it."""
        import torch

        odd = (torch.zeros(2, 2), torch.full((3,), torch.nan), torch.zeros(0), [], {}, (1, 2), -1, "x")
        stream = io.BytesIO()
        try:
            torch.save(reshaped(self._state, rng, odd), stream, _use_new_zipfile_serialization=sample == "zip.pt")
        except (TypeError, ValueError, AttributeError, RuntimeError, OverflowError, UnicodeError):
            return None
        return stream.getvalue()

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_pickle_codes,) if sample == "legacy.pt" else ()

    def read(self, sample: str, data: bytes) -> str:
        put(self.home / self._name, data)
        self._training._resume(self.home)
        return ""


class CacheReader(Reader):
    """A cache with one wrong file: read, checked, repaired, pruned, compacted; every row that is given is right."""

    name = "cache"
    seconds = 20.0

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        from benchmarks import damage_cache
        from cache import CacheError
        from pipeline.features.converted_models import store_converted

        self.errors = (CacheError, BackboneError)
        self._own = damage_cache
        self._photos = damage_cache.build(home)
        model = home / "features" / "runtimes" / "0123456789abcdef"
        put(model, b"@nothing@")
        store_converted(model, lambda folder: put(folder / "model.bin", b"model"))
        root = home / "features"
        self._sound = {
            str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
        }
        kinds = {"shard": "*/*.h5", "key": "*/key.json", "ids": "*/*.ids", "index": "files.sqlite"}
        kinds |= {"seal": "runtimes/*/seal.json", "converted": "runtimes/*/model.bin"}
        self._path = {}
        for kind, pattern in kinds.items():
            path = min(root.glob(pattern))
            self._path[f"{kind}{path.suffix}"] = str(path.relative_to(root))
            self.samples[f"{kind}{path.suffix}"] = path.read_bytes()
        self._probe: Any = None

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        if sample == "index.sqlite":
            return by_sql(self.samples[sample], rng)
        return by_shard_header(self.samples[sample], rng) if sample == "shard.h5" else None

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_json,) if sample.endswith("json") else ()

    def read(self, sample: str, data: bytes) -> str:
        from cache import FeatureCache

        root = self.home / "damaged" / "features"
        put(root.parent, b"@folder@")
        for name, sound in self._sound.items():
            put(root / name, data if self._path[sample] == name else sound)
        cache = FeatureCache(root)
        if self._probe is None:
            self._probe = self._own.LastingProbe()  # of the child; dies with it
        said = []
        for step in self._steps(cache, self._probe):
            try:
                said.append(step())
            except self.errors as error:
                str(error).encode()
        return ", ".join(text for text in said if isinstance(text, str) and text)

    def _steps(self, cache: Any, probe: Any) -> list[Callable[[], object]]:
        """What commands do with a cache; a text says what went wrong."""
        from pipeline.features.converted_models import damaged_models

        root = cache.root
        return [
            lambda: self._rows(root),
            lambda: damaged_models(root / "runtimes"),
            lambda: "wrong ids of photos" if self._own._wrong_ids(cache, self._photos) else "",
            cache.keys,
            cache.compact,
            lambda: self._rows(root),
            lambda: cache.prune(dry_run=False),
            lambda: self._own.repair(root, self._own.verify(root, deep=True, probe=probe), probe),
            lambda: self._rows(root),
        ]

    def _rows(self, root: Path) -> str:
        own = self._own
        wrong = sum(own.rows_in(root, key, column)[1] for key in own.KEYS for column in own.COLUMNS)
        return f"{wrong} wrong rows" if wrong else ""


def by_shard_header(data: bytes, rng: random.Random) -> bytes:
    """A header with other content and a right checksum."""
    from cache.header import checksum

    magic, layout, block, _, rest = data.split(b" ", 4)
    body, _, _ = rest.partition(b"\n")
    new = by_json(body, rng)
    head = b" ".join((magic, layout, block, f"{checksum(new):016x}".encode(), new)) + b"\n"
    size = int(block)
    return head.ljust(size, b"\0")[: max(size, len(head))] + data[size:]


def by_sql(data: bytes, rng: random.Random) -> bytes:
    """An index with other tables, types or values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.sqlite"
        path.write_bytes(data)
        with sqlite3.connect(path) as base:
            tables = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            table = rng.choice(tables)
            columns = [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
            odd = rng.choice(
                ("NULL", "'x'", "x'00'", "-1", "9e999", "9223372036854775807", "zeroblob(100000)", "1.5", "''")
            )
            statement = rng.choice(
                (
                    *[f"UPDATE {table} SET {rng.choice(columns)} = {odd}"] * 4,
                    f"DROP TABLE {table}",
                    f"ALTER TABLE {table} RENAME COLUMN {rng.choice(columns)} TO other",
                    f"ALTER TABLE {table} RENAME TO other",
                    f"DELETE FROM {table}",
                    f"PRAGMA user_version = {rng.choice((0, 1, 2, 99, -1))}",
                    f"CREATE TRIGGER t AFTER UPDATE ON {table} BEGIN DELETE FROM {table}; END",
                    f"CREATE VIEW v AS SELECT * FROM {table}",
                )
            )
            try:
                base.execute(statement)
            except sqlite3.Error:
                return data
        base.close()
        return path.read_bytes()
