"""Which photos' labels had a part in a backbone's weights, and where that is written down.

    fine-tuned weights (.safetensors header) ──▶ extract ──▶ cache, beside the key ──▶ fit-heads will not test on them

The ids stand in the header of the weights file, so a copy of the file carries them; the tensors, and with them the
weights' digest, do not know of it. Writing the tensors to a new file, such as a .pth, loses them. Where a catalogue
names products, the digests of their names stand there too: another photo of a trained product is no new one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureCache, IdIndex, Ids, KeyInfo, as_ids
from pipeline.arrays import Bool
from pipeline.catalogue import Split, name_digests
from pipeline.errors import BackboneError, OptionError
from pipeline.shapes import mapping, text
from pipeline.system import open_regular, parsed

FACTS, TRAIN, CHOICE = "selvedge_finetune", "trained_on", "chosen_on"
TRAIN_PRODUCTS, CHOICE_PRODUCTS = "trained_products", "chosen_products"
NOTE, FINAL, REFIT = "fine_tuned", "final", "refit"
"""FINAL: a fact of weights that every labelled photo had a part in. REFIT: of weights that validation photos moved."""

_COUNTS = {
    TRAIN: "train",
    CHOICE: "choice",
    TRAIN_PRODUCTS: "train_products",
    CHOICE_PRODUCTS: "choice_products",
}
"""What a key's notes call the length of each list."""

_MOST = 2_000_000
_MOST_HEADER_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class TrainingProvenance:
    """Content ids of the photos whose labels had a part in some weights; none for weights that we did not train.

    Attributes:
        train: S32 (n,), sorted; their labels moved the weights.
        choice: S32 (m,), sorted; their labels chose the epoch (validation rows of the fine-tuning).
        facts: What else the weights file says of its making: backbone, start, attributes, split and options.
        train_products: S32 (p,), sorted; `product_ids` of the products of `train`, as far as they are named.
        choice_products: The same of `choice`.
    """

    train: Ids
    choice: Ids
    facts: Mapping[str, Any]
    train_products: Ids = field(default_factory=lambda: as_ids(()))
    choice_products: Ids = field(default_factory=lambda: as_ids(()))

    @property
    def lists(self) -> Mapping[str, Ids]:
        """What is written beside a cache key and into a weights file, by name."""
        return {
            TRAIN: self.train,
            CHOICE: self.choice,
            TRAIN_PRODUCTS: self.train_products,
            CHOICE_PRODUCTS: self.choice_products,
        }

    def __bool__(self) -> bool:
        return bool(len(self.train) or len(self.choice))

    def note(self) -> dict[str, Any]:
        """What the cache's key.json says: how many there are, and which split was used."""
        counts = {_COUNTS[name]: len(ids) for name, ids in self.lists.items()}
        again = {name: True for name in (REFIT, FINAL) if self.facts.get(name)}
        return {NOTE: {**counts, "split": self.facts.get("split", ""), **again}}

    def metadata(self) -> dict[str, str]:
        """Header entries of a weights file; `read_seen` inverts it.

        Raises:
            OptionError: There are more photos than such a header can hold.
        """
        if len(self.train) + len(self.choice) > _MOST:
            count = len(self.train) + len(self.choice)
            raise OptionError(
                f"{count} photos cannot be listed in a weights file; fine-tune on at most {_MOST} of them"
            )
        listed = {name: _text(ids) for name, ids in self.lists.items()} if self else {}
        return {"format": "pt", FACTS: json.dumps(self.facts), **listed}


def joined(first: TrainingProvenance, second: TrainingProvenance) -> TrainingProvenance:
    """The photos of either; the facts of the second. A photo that moved the weights counts as that alone."""
    train = np.union1d(first.train, second.train)
    choice = np.setdiff1d(np.union1d(first.choice, second.choice), train)
    products = np.union1d(first.train_products, second.train_products)
    chose = np.setdiff1d(np.union1d(first.choice_products, second.choice_products), products)
    return TrainingProvenance(train, choice, second.facts, products, chose)


def product_ids(names: Iterable[str | None]) -> Ids:
    """SHA-256 of the names of products, S32, sorted and without repeats; photos of unknown ones are passed over."""
    known = {name for name in names if name is not None}
    return np.sort(name_digests(known))


def nothing_seen() -> TrainingProvenance:
    """What is known of weights that say nothing."""
    return TrainingProvenance(as_ids(()), as_ids(()), {})


def read_seen(weights: str) -> TrainingProvenance:
    """What a weights file says of its making; nothing for hub, package, random:SEED and files that do not say.

    Raises:
        BackboneError: The file says something that cannot be read.
    """
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.exists():
        return nothing_seen()
    with parsed(BackboneError, f"cannot read which photos {path} was trained on: "):
        said = _metadata(path)
        facts = json.loads(said.get(FACTS, "{}"))
        if not isinstance(facts, dict) or not isinstance(facts.get("split", ""), str):
            raise BackboneError(f"{path}: the header entry {FACTS} is no object of facts with the name of a split")
        train, choice, *products = (_ids(said.get(name, "")) for name in _COUNTS)
        return TrainingProvenance(train, choice, facts, *products)


def _metadata(path: Path) -> dict[str, str]:
    """The texts in the header of a .safetensors file: its length in eight bytes, then JSON."""
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MOST_HEADER_BYTES:
            raise ValueError(f"its header is said to have {size} bytes; expected at most {_MOST_HEADER_BYTES}")
        header = json.loads(file.read(size).decode("utf-8"))
    said = header.get("__metadata__") or {}
    mapping(text)(said, "__metadata__")
    return dict(said)


def seen_of_key(cache: FeatureCache, info: KeyInfo) -> TrainingProvenance:
    """What `extract` wrote down beside the vectors of one key.

    Raises:
        OptionError: The key's notes say that there was something and it is gone.
        CacheError: It is damaged.
    """
    ids = {name: cache.attached_ids(info.digest, name) for name in _COUNTS}
    said = info.notes.get(NOTE) or {}
    if any(len(ids[name]) < said.get(count, 0) for name, count in _COUNTS.items()):
        raise OptionError(
            f"the list of photos that {info.notes.get('weights_source', 'the backbone')} was trained on is gone from "
            f"{cache.root / info.digest[:16]}; run the same extract command again, which writes it again"
        )
    facts = {"split": said.get("split", ""), **{name: bool(said.get(name)) for name in (REFIT, FINAL)}}
    return TrainingProvenance(ids[TRAIN], ids[CHOICE], facts, ids[TRAIN_PRODUCTS], ids[CHOICE_PRODUCTS])


def require_unseen(
    provenance: TrainingProvenance,
    ids: Ids,
    split: Split,
    source: str,
    products: Sequence[str | None] | None = None,
    judged: Sequence[str] = ("validation", "test"),
) -> None:
    """Refuse to judge on photos that trained the backbone, and to test on those that chose its epoch.

    Args:
        provenance: What the weights have seen.
        ids: S32 (n,), the photos of `split`.
        split: Their parts.
        source: What the error calls the weights.
        products: (n,), the names of their products, None for unknown; None where nothing names any.
        judged: The parts that something is judged on.

    Raises:
        OptionError: Photos of these parts, or others of their products, trained the weights; with the counts.
    """
    trained_on = _is_one_of(provenance.train, provenance.train_products, ids, products)
    chosen_on = _is_one_of(provenance.choice, provenance.choice_products, ids, products)
    rows = {part: split.rows(part) for part in judged}
    trained = {part: int(trained_on[at].sum()) for part, at in rows.items()}
    chosen = int((chosen_on & ~trained_on)[rows["test"]].sum())
    if not any(trained.values()) and not chosen:
        return
    if provenance.facts.get(REFIT) and not trained.get("test"):
        raise OptionError(
            f"{source} has learnt from validation photos, so nothing can be chosen on it. Name it with "
            "--refit-weights, and with --weights the weights of the training before it (the folder above)"
        )
    if provenance.facts.get(FINAL):
        raise OptionError(
            f"{source} has learnt from every labelled photo, test photos included: nothing can be judged on it. Name "
            "it with --final-weights, and with --weights the weights of the training before it (the folder above)"
        )
    folder = provenance.facts.get("split") or "FOLDER/split.csv"
    said = [f"{count} of the {len(rows[part])} {part} photos" for part, count in trained.items() if count]
    parts = [f"{' and '.join(said)} trained it"] if said else []
    parts += [f"{chosen} of the {len(rows['test'])} test photos chose its epoch"] if chosen else []
    also = "" if products is None else " (themselves or by another photo of their product)"
    raise OptionError(
        f"this split would judge the fine-tuned backbone {source} on photos it has learnt from: "
        f"{', '.join(parts)}{also}. Take the split it was trained with: --split-from {folder}"
    )


def _is_one_of(photos: Ids, of_products: Ids, ids: Ids, products: Sequence[str | None] | None) -> Bool:
    """(n,): the photo is on the list, or its product is."""
    listed: Bool = IdIndex(photos).find(ids) >= 0
    if products is None or not len(of_products):
        return listed
    named = np.array([name is not None for name in products], np.bool_)
    return listed | (named & (IdIndex(of_products).find(name_digests(name or "" for name in products)) >= 0))


def _text(ids: Ids) -> str:
    return base64.b64encode(as_ids(ids).tobytes()).decode("ascii")


def _ids(text: str) -> Ids:
    data = base64.b64decode(text, validate=True)
    if len(data) % 32:
        raise ValueError(f"{len(data)} bytes of content ids; expected 32 each")
    return np.frombuffer(data, dtype="S32")
